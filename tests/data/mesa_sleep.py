"""The sleep/wake benchmark's export of MESA, tiny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

EPOCHS = 130


def make_mesa_sleep(root: Path, people: int = 30) -> Path:
    """Write two tables of epochs and the demographic table, which has semicolons."""
    root.mkdir(parents=True, exist_ok=True)
    nights = [night(person) for person in range(1, people + 1)]
    pd.concat(nights[::-1][6:]).to_csv(root / "dftrain_task1.csv", index=False)
    pd.concat(nights[::-1][:6]).to_csv(root / "dftest_task1.csv", index=False)
    numbers = range(1, people)  # one person is not in the table
    demographics = {
        "mesaid": list(numbers),
        "examnumber": 5,
        "nsrr_age": [50 + 3 * n % 40 for n in numbers],
        "nsrr_age_gt89": "no",
        "nsrr_sex": [("female", "male")[n % 2] for n in numbers],
        "nsrr_race": [
            ("white", "black or african american", "hispanic", "asian", "not reported")[n % 5]
            for n in numbers
        ],
    }
    pd.DataFrame(demographics).to_csv(root / "demographics.csv", index=False, sep=";")
    return root


def night(person: int) -> pd.DataFrame:
    """Return a night that begins before midnight; activity is low in sleep, light often blank."""
    rng = np.random.default_rng(person)
    begin = pd.Timestamp("1900-01-01 23:00:00")  # the benchmark's day of every first epoch
    asleep = (np.arange(EPOCHS) // 20 + person) % 2 == 1
    light = np.where(rng.random(EPOCHS) < 0.2, np.nan, rng.uniform(0, 9, EPOCHS))
    return pd.DataFrame(
        {
            "mesaid": person,
            "linetime": pd.date_range(begin, periods=EPOCHS, freq="30s").astype("str"),
            "marker": 0.0,
            "interval": "ACTIVE",
            "binterval": 1.0,
            "activity": np.where(asleep, 0, rng.integers(0, 200, EPOCHS)).astype(float),
            "whitelight": light,
            "redlight": light / 3,
            "greenlight": light / 3,
            "bluelight": light / 3,
            "gt": asleep,
            "gt_sleep_block": asleep,
            "wake": ~asleep,
        }
    )
