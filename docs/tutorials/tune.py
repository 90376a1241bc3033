# %% [markdown]
# # FairTune on your images
#
# You have image files and a table that says what each one shows, of whom. Here both are phantoms:
# made-up skin lesions, of which the minority's stand out less.

# %%
import json
from pathlib import Path

import pandas as pd
from PIL import Image

import evenhand

phantoms = evenhand.make_phantoms(
    evenhand.PhantomSettings(patients=600, size=32, minority=0.4, harder=0.5, shortcut=0)
)
folder = Path("images")
folder.mkdir()
rows = phantoms.table.reset_index(drop=True)
for sample in rows["sample_id"]:
    Image.fromarray(phantoms.read(sample)).save(folder / f"{sample}.png")
table = pd.DataFrame(
    {
        "file": [f"images/{sample}.png" for sample in rows["sample_id"]],
        "diagnosis": [phantoms.classes[label] for label in rows["label"]],
        "patient_id": rows["patient_id"],
        "group": rows["attr_group"],
    }
)
table.to_csv("cases.csv", index=False)
table.head()

# %% [markdown]
# ## Can these patients show a difference at all?
#
# `evenhand check cases.csv …` looks for groups and outcomes that suffice, leaks between splits,
# and power.

# %%
COLUMNS = {
    "image_column": "file",
    "label": "diagnosis",
    "patient": "patient_id",
    "attribute": "group",
}
checked = evenhand.check("cases.csv", **COLUMNS, out="runs/check")
requirements = pd.DataFrame(json.loads(Path("runs/check/check.json").read_text())["findings"])
requirements[["requirement", "measured", "status"]].style.hide(axis="index")

# %% [markdown]
# ## The search
#
# It starts from a network that you have; here from one that learnt from other phantoms, where the
# group says nothing of the label. For your own data, `weights="pretrained"` takes timm's.

# %%
NETWORK = {"backbone": "test_vit", "image_size": 32}
start = evenhand.finetune(
    "phantom:patients=800,size=32,minority=0.5,harder=0.3,shortcut=0,seed=1000",
    attribute="group",
    weights="none",
    **NETWORK,
    epochs=8,
    lr=3e-3,
    out="runs/start",
)

# %% [markdown]
# Each trial tunes other parts of the network, at another learning rate, and is judged by its
# fairness on validation patients. Four trials of three epochs are few: take 30 of 10.

# %%
run = evenhand.tune(
    "cases.csv",
    **COLUMNS,
    **NETWORK,
    weights=start.root,
    target="auc_worst",
    baseline="full",
    trials=4,
    epochs=3,
    lr_min=1e-3,
    lr_max=1e-2,
    confirm=1,
    confirm_seeds=1,
    out="runs/tuned",
)
run

# %% [markdown]
# ## What it found

# %%
trials = pd.read_csv("runs/tuned/trials.csv")
trials[["number", "origin", "state", "auc_worst", "lr", "mask"]].round(4)

# %%
print("\n".join(run.record.notes))

# %% [markdown]
# ## On test patients, whom nothing was chosen on

# %%
rows = run.metrics.query("split == 'test' and metric in ['auc', 'auc_worst']")
rows[["model", "against", "group", "value", "low", "high", "p_adjusted"]].round(3)

# %% [markdown]
# There are few test patients, and the intervals say how little they can show. `evenhand demo`
# plants a fault that tuning can undo, and has enough patients to show it.
#
# ## The model on new patients
#
# `evenhand predict runs/tuned NEW.csv …` scores the patients of another hospital and audits them,
# and [pruning and exporting](prune.md) makes the model smaller.
