# %% [markdown]
# # FairTune on your images
#
# You need image files and a table with the diagnosis and the patient of each. Here both are
# phantoms: synthetic skin lesions, with less contrast in the minority.

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
# ## Are these patients enough to show a difference?
#
# `evenhand check cases.csv …` counts groups and outcomes, and checks for leaks between splits, and
# for power.

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
# The search starts from a trained network. This one was trained on other phantoms, in which group
# and label are independent. For your own data, `weights="pretrained"` takes timm's weights.

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
# Each trial tunes other parts of the network, at another learning rate; its value is the fairness
# on validation patients. Four trials of three epochs are few: take 30 trials of 10 epochs.

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
# ## The trials

# %%
trials = pd.read_csv("runs/tuned/trials.csv")
trials[["number", "origin", "state", "auc_worst", "lr", "mask"]].round(4)

# %%
print("\n".join(run.record.notes))

# %% [markdown]
# ## On test patients, who were not used for any choice

# %%
rows = run.metrics.query("split == 'test' and metric in ['auc', 'auc_worst']")
rows[["model", "against", "group", "value", "low", "high", "p_adjusted"]].round(3)

# %% [markdown]
# With few test patients the intervals are wide. `evenhand demo` has a planted fault that tuning
# can repair, and enough patients to show the repair.
#
# ## The model on new patients
#
# `evenhand predict runs/tuned NEW.csv …` scores the patients of another hospital and audits them,
# and [pruning and exporting](prune.md) makes the model smaller.
