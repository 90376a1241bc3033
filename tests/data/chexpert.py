"""CheXpert's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.data.pictures import write_picture

from evenhand.cohort.registry import CHEST_FINDINGS

RACES = (
    "White",
    "White, non-Hispanic",
    "Asian",
    "Black or African American",
    "Other",
    "Unknown",
    "Race and Ethnicity Unknown",
)
UNCERTAIN = ("", "1.0", "0.0", "-1.0")


def make_chexpert(root: Path, patients: int = 42) -> Path:
    """Write ``train.csv``, a spreadsheet of demographics, and two views per patient."""
    rows = []
    for patient in range(1, patients + 1):
        for view in ("frontal", "lateral"):
            path = f"train/patient{patient:05d}/study1/view{1 + (view == 'lateral')}_{view}.jpg"
            write_picture(root / path, len(rows))
            findings = {
                name: UNCERTAIN[(patient + place) % 4] for place, name in enumerate(CHEST_FINDINGS)
            }
            rows.append(
                {
                    "Path": f"CheXpert-v1.0-small/{path}",
                    "Sex": ("Female", "Male", "Male", "Female", "Unknown")[patient % 5],
                    "Age": 20 + 7 * patient % 71,
                    "Frontal/Lateral": view.capitalize(),
                    "AP/PA": "AP" if view == "frontal" else "",
                    "No Finding": "1.0" if patient % 3 == 0 else "",
                    **findings,
                }
            )
    pd.DataFrame(rows).to_csv(root / "train.csv", index=False)
    people = range(1, patients)  # one patient is not in the table
    demographics = {
        "PATIENT": [f"patient{patient:05d}" for patient in people],
        "PRIMARY_RACE": [RACES[patient % len(RACES)] for patient in people],
        "ETHNICITY": "Unknown",
        "GENDER": "Female",
        "AGE_AT_CXR": [50.0 + patient for patient in people],
    }
    table = pd.DataFrame(demographics)
    older = table.head(2).assign(AGE_AT_CXR=90.0)  # a patient with a study in another year
    pd.concat([table, older]).to_excel(root / "CHEXPERT DEMO.xlsx", index=False)
    return root
