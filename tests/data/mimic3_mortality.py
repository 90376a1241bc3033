"""The layout of mimic3-benchmarks' in-hospital mortality, tiny."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.readers.mimic3_mortality import CATEGORIES, VARIABLES

LANGUAGES = ("ENGL", "SPAN", "", "ENGL")
ETHNICITIES = ("WHITE", "BLACK/AFRICAN AMERICAN", "ASIAN - CHINESE", "UNKNOWN/NOT SPECIFIED")


def make_mimic3_mortality(root: Path, subjects: int = 60) -> Path:
    """Write stays of train and test, five lists, and who the subjects are, in both ways.

    Even subjects have two stays.
    """
    lists: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    for subject in range(1, subjects + 1):
        part = "test" if subject % 5 == 0 else "train"
        for episode in range(1, 2 + (subject % 2 == 0)):
            stay = f"{subject}_episode{episode}_timeseries.csv"
            write_stay(root / part / stay, 10 * subject + episode)
            lists[part].append({"stay": stay, "y_true": int(subject % 3 == 0)})
    for part, rows in lists.items():
        pd.DataFrame(rows).to_csv(root / part / "listfile.csv", index=False)
    val = [row for row in lists["train"] if int(str(row["stay"]).split("_")[0]) % 5 == 1]
    train = [row for row in lists["train"] if row not in val]
    for part, rows in (("train", train), ("val", val), ("test", lists["test"])):
        pd.DataFrame(rows).to_csv(root / f"{part}_listfile.csv", index=False)
    people = range(1, subjects)  # one subject is not in the table
    demographics = {
        "SUBJECT_ID": list(people),
        "LANGUAGE": [LANGUAGES[n % 4] for n in people],
        "INSURANCE": [("Medicare", "Private", "Self Pay")[n % 3] for n in people],
        "RELIGION": [("CATHOLIC", "NOT SPECIFIED", "JEWISH")[n % 3] for n in people],
        "ETHNICITY": [ETHNICITIES[n % 4] for n in people],
        "GENDER": [("F", "M")[n // 2 % 2] for n in people],
        "AGE": [30 + 7 * n % 60 for n in people],
    }
    pd.DataFrame(demographics).to_csv(root / "demographics_rich.csv", index=False)
    write_own_tables(root, pd.DataFrame(demographics))
    return root


def write_own_tables(root: Path, demographics: pd.DataFrame) -> None:
    """Write the same as MIMIC-III has it: dates of birth, two admissions each, the later first."""
    born = (2140 - demographics["AGE"]).astype("str") + "-06-01 00:00:00"
    patients = demographics[["SUBJECT_ID", "GENDER"]].assign(DOB=born, EXPIRE_FLAG=0)
    patients.to_csv(root / "PATIENTS.csv", index=False)
    first = demographics.drop(columns=["GENDER", "AGE"]).assign(ADMITTIME="2140-06-01 07:15:00")
    later = first.assign(ADMITTIME="2150-01-01 00:00:00", INSURANCE="Medicaid", LANGUAGE="PORT")
    pd.concat([later, first]).to_csv(root / "ADMISSIONS.csv.gz", index=False)


def write_stay(path: Path, number: int) -> None:
    """Write a stay of 60 hours, mostly blank, as the benchmark writes it."""
    rng = np.random.default_rng(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["Hours", *VARIABLES])
        for hours in np.sort(rng.uniform(0, 60, 40)):
            lines.writerow([f"{hours:.4f}", *(cell(name, rng) for name in VARIABLES)])


def cell(name: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.7:
        return ""
    if name in CATEGORIES:
        value = str(rng.choice(CATEGORIES[name]))
        return f"{value}.0" if name.endswith(("rate", "total")) else value
    return f"{rng.uniform(20, 120):.1f}"
