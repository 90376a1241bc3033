"""A user's own table of images, tiny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tests.data.pictures import write_picture

from evenhand.cohort.settings import DataSettings


def make_frame(patients: int = 30) -> pd.DataFrame:
    """Return a table with two images per patient, a blank and an "Unknown" among the levels."""
    number = np.arange(2 * patients)
    patient = number // 2
    return pd.DataFrame(
        {
            "photo": [f"images/{n:03d}.png" for n in number],
            "person": [f"{p:04d}" for p in patient],
            "finding": np.where(patient % 3 == 0, "sick", "healthy"),
            "skin": pd.Series([("I", "II", "III", "", "Unknown")[p % 5] for p in patient]),
            "years": [f"{20 + p}" for p in patient],
        }
    )


def make_table(root: Path, suffix: str = ".csv", patients: int = 30) -> Path:
    """Write such a table and its images, and return the table's path."""
    frame = make_frame(patients)
    for n, photo in enumerate(frame["photo"]):
        write_picture(root / photo, n)
    return write_frame(root / f"cohort{suffix}", frame)


def write_frame(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table as its name says; parquet holds numbers as numbers and blanks as missing."""
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        typed = frame.replace({"": None}).assign(years=pd.to_numeric(frame["years"]))
        typed.to_parquet(path, index=False)
    return path


def settings(root: Path) -> DataSettings:
    """Write such a table and return the settings that read it."""
    return DataSettings(
        data=f"table:{make_table(root)}",
        attribute=("skin", "years"),
        bins=("years=30,40",),
        image_column="photo",
        label="finding",
        patient="person",
    )
