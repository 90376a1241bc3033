# %% [markdown]
# # FairTune on your images
#
# You have image files and a table that says what each one shows, of whom. Here both are phantoms:
# made-up skin lesions, most of those of the minority malignant and few of the majority's. A
# network that learns this shortcut fails wherever it does not hold.

# %%
from pathlib import Path

import pandas as pd
from PIL import Image

import evenhand

phantoms = evenhand.make_phantoms(
    evenhand.PhantomSettings(patients=500, size=32, minority=0.4, tilt=0.6, harder=0, shortcut=0)
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
requirements = evenhand.check("cases.csv", **COLUMNS)
pd.DataFrame(requirements.findings)[["requirement", "measured", "threshold", "status"]]

# %% [markdown]
# ## The search
#
# Each trial tunes other parts of the network at another learning rate, and is judged by its
# fairness on validation patients. Here all is tiny: a ViT of six blocks from random weights, four
# trials of two epochs. For your own data take pre-trained weights (`weights="pretrained"`), 30
# trials and 10 epochs.

# %%
run = evenhand.tune(
    "cases.csv",
    **COLUMNS,
    image_size=32,
    target="equalized_odds_difference",
    backbone="test_vit",
    weights="none",
    trials=4,
    epochs=2,
    confirm=1,
    confirm_seeds=1,
    out="runs/tuned",
)
run

# %% [markdown]
# ## What it found

# %%
trials = pd.read_csv("runs/tuned/trials.csv")
trials[["number", "origin", "state", "equalized_odds_difference", "lr", "mask"]].round(4)

# %%
print("\n".join(run.record.notes))

# %% [markdown]
# ## On test patients, whom nothing was chosen on

# %%
rows = run.metrics.query("split == 'test' and metric == 'equalized_odds_difference'")
rows[["model", "against", "attribute", "value", "low", "high", "p_adjusted"]].round(3)

# %% [markdown]
# With 100 test patients and two epochs, expect no verdict: the interval says how little such a
# test set can show. `evenhand demo` runs the same on 2,400 patients, where it shows.
#
# ## The model on new patients
#
# `evenhand predict runs/tuned NEW.csv …` scores the patients of another hospital and audits them,
# and [pruning and exporting](prune.md) makes the model smaller.
