"""A user's own table of series, tiny: a CSV per series, with gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tests.data.table import make_frame, write_frame

from evenhand.cohort.settings import DataSettings

STEPS = 6
CHANNELS = ("pulse", "spo2", "temp")


def make_series(number: int) -> pd.DataFrame:
    """Return six steps of three channels, of which a third is not observed."""
    rng = np.random.default_rng(number)
    values = rng.normal(size=(STEPS, len(CHANNELS)))
    values[rng.random(values.shape) < 1 / 3] = np.nan
    return pd.DataFrame(values, columns=list(CHANNELS))


def make_series_table(root: Path, patients: int = 30) -> Path:
    """Write a table with two series per patient, and return its path."""
    frame = make_frame(patients)
    frame["signal"] = frame.pop("photo").str.replace("images", "series").str.replace("png", "csv")
    for number, name in enumerate(frame["signal"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make_series(number).to_csv(root / name, index=False)
    return write_frame(root / "cohort.csv", frame)


def settings(root: Path) -> DataSettings:
    """Write such a table and return the settings that read it."""
    return DataSettings(
        data=f"table:{make_series_table(root)}",
        attribute=("skin", "years"),
        bins=("years=30,40",),
        series_column="signal",
        label="finding",
        patient="person",
    )
