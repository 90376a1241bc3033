"""A tree with a folder per class, tiny."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.data.pictures import write_picture

from evenhand.cohort.settings import DataSettings


def make_folders(root: Path, patients: int = 40) -> Path:
    """Write two images per patient in folders of two classes, and a table of sexes and ages."""
    rows = []
    for patient in range(patients):
        for eye, suffix in (("left", "png"), ("right", "JPG")):
            folder = "glaucoma" if patient % 3 == 0 else "healthy"
            name = f"{folder}/{patient}_{eye}.{suffix}"
            write_picture(root / name, len(rows))
            sex = ("female", "male", "")[patient // 2 % 3]
            rows.append({"file": name, "person": f"p{patient}", "sex": sex, "age": 40 + patient})
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    return root


def settings(root: Path) -> DataSettings:
    """Write such a tree and return the settings that read it."""
    return DataSettings(
        data=f"folders:{make_folders(root)}",
        attribute=("sex", "age"),
        bins=("age=60",),
        patient="person",
    )
