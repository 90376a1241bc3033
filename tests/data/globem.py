"""GLOBEM's published layout, tiny: two studies, one with a joined table of features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

KINDS = {"location": "loc", "screen": "screen", "sleep": "slp", "steps": "steps"}
SEGMENTS = ("morning", "allday", "14dhist")


def make_globem(root: Path, people: int = 30) -> Path:
    """Write features of 40 days, weekly surveys, platforms and demographics.

    Ten people take part in both years under one pid.
    """
    for year, first in ((1, 1), (2, people - 9)):
        study = root / f"INS-W_{year}"
        pids = [f"INS-W_{number:03d}" for number in range(first, first + people)]
        write_features(study / "FeatureData", pids, f"201{7 + year}-04-01", joined=year == 2)
        write_surveys(study, pids, year)
    pids = [f"INS-W_{number:03d}" for number in range(1, 2 * people - 10)]  # one is missing
    demographics = {
        "PID": pids,
        "gender": [(1, 2, 3, 9, "")[n % 5] for n in range(len(pids))],
        "age": [(18, 25, "")[n % 3] for n in range(len(pids))],
        "race": [("Asian", "White", "Latinx")[n % 3] for n in range(len(pids))],
        "generation": 1,
        "disability": [(1, 2, "")[n % 3] for n in range(len(pids))],
    }
    pd.DataFrame(demographics).to_csv(root / "demographics.csv", index=False)
    return root


def write_features(folder: Path, pids: list[str], start: str, *, joined: bool) -> None:
    """Write one table per kind, or one of all; a tenth of the cells is blank, days are missing."""
    rng = np.random.default_rng(len(start))
    days = pd.date_range(start, periods=40).strftime("%Y-%m-%d")
    index = pd.MultiIndex.from_product([pids, days], names=["pid", "date"])
    index = index[rng.random(len(index)) > 0.1]
    tables = {}
    for kind, short in KINDS.items():
        columns = {}
        for segment in SEGMENTS:
            values = rng.normal(size=len(index))
            values[rng.random(len(index)) < 0.1] = np.nan
            columns[f"f_{short}:phone_{kind}_rapids_mean:{segment}"] = values
            columns[f"f_{short}:phone_{kind}_rapids_mean_norm:{segment}"] = values / 2
            columns[f"f_{short}:phone_{kind}_rapids_mean_dis:{segment}"] = "h"
        tables[kind] = pd.DataFrame(columns, index=index)
    if joined:
        tables = {"rapids": pd.concat(tables.values(), axis=1)}
    folder.mkdir(parents=True)
    for kind, table in tables.items():
        table.reset_index().to_csv(folder / f"{kind}.csv", index=False)


def write_surveys(study: Path, pids: list[str], year: int) -> None:
    """Write three surveys each; one date is written another way, one label is blank."""
    rows = [
        {
            "pid": pid,
            "date": date if year == 1 or week else "04/30/2019",
            "phq4": 1.0,
            "dep": "" if number == 4 and week == 0 else bool((number + week) % 2),
            "BDI2": "",
        }
        for number, pid in enumerate(pids)
        for week, date in enumerate(f"201{7 + year}-04-{day:02d}" for day in (30, 7, 14))
    ]
    (study / "SurveyData").mkdir()
    pd.DataFrame(rows).to_csv(study / "SurveyData" / "dep_weekly.csv", index=False)
    (study / "ParticipantsInfoData").mkdir()
    platforms = {"pid": pids, "platform": [("ios", "android")[n % 2] for n in range(len(pids))]}
    pd.DataFrame(platforms).to_csv(study / "ParticipantsInfoData" / "platform.csv", index=False)
