# %% [markdown]
# # Audit any model's predictions
#
# You need a table of scores, labels and attributes; the model itself is not needed. This table is
# synthetic, so the truth is known: in women of 60 and over the scores carry less information than
# in other patients, and the site makes no difference.

# %%
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
n = 1200
table = pd.DataFrame(
    {
        "sample_id": [f"img{row:04}" for row in range(n)],
        "patient_id": [f"p{row // 2:03}" for row in range(n)],  # two images of each patient
        "label": rng.integers(2, size=n // 2).repeat(2),
        "sex": rng.choice(["female", "male"], n // 2).repeat(2),
        "age": rng.integers(20, 90, n // 2).repeat(2),
        "site": rng.choice(["A", "B"], n // 2).repeat(2),  # makes no difference
    }
)
harder = (table["sex"] == "female") & (table["age"] >= 60)
signal = np.where(harder, 0.5, 1.5) * (2 * table["label"] - 1) + rng.normal(size=n)
table["score"] = 1 / (1 + np.exp(-signal))
table.to_csv("predictions.csv", index=False)
table.head()

# %% [markdown]
# ## One command
#
# In a shell this is `evenhand audit predictions.csv --attribute sex --attribute age --bins age=60
# …`. In Python, flags are keywords. `sex*age` adds the combinations of both.

# %%
import evenhand

run = evenhand.audit(
    "predictions.csv", attribute=["sex", "age", "sex*age", "site"], bins="age=60", out="runs/audit"
)
run

# %% [markdown]
# ## What is shown, and what is not
#
# The report, `runs/audit/report.html`, begins with its verdicts. They are also in a file, so that
# a pipeline can stop on them. All of them are corrected together: with no true difference, at
# most 5 % of reports claim one.

# %%
import json
from pathlib import Path

for verdict in json.loads(Path("runs/audit/verdicts.json").read_text())["verdicts"]:
    print("shown:" if verdict["claim"] else "not shown:", verdict["text"], "\n")

# %% [markdown]
# ## Every number, with its interval and its count

# %%
numbers = run.metrics.query("metric == 'auc' and attribute == 'sex*age'")
numbers[["group", "value", "low", "high", "patients", "positives"]].round(3)

# %% [markdown]
# Intervals resample patients, not images, since two images of one patient are similar. Intervals
# that resample images would be too narrow.
#
# ## From arrays, without files

# %%
groups = pd.Series(np.where(harder, "women of 60 and over", "others"), name="patients")
measured = evenhand.measure_groups(
    table["label"], table["score"], groups, patients=table["patient_id"]
)
measured

# %%
axes = measured.plot("auc")

# %% [markdown]
# ## What next
#
# - A gap that is not shown may still exist: the page says how large a gap would have been
#   detected. Usually a group has too few patients with an outcome; `evenhand check` says how many
#   are needed.
# - Which error matters depends on what a positive decision means for a patient: `--decision
#   assistive` or `punitive` chooses the error rate. [Metrics](../reference/metrics.md) says when
#   each metric misleads.
# - To compare two models on the same patients, use [`evenhand compare`](../guides/measurement.md).
