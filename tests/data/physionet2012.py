"""PhysioNet 2012's published layout, tiny: sets A, B and C."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evenhand.cohort.settings import DataSettings


def write_stay(path: Path, number: int, lines: tuple[str, ...] | None = None) -> None:
    """Write a stay: age, sex and ICU by its number, and some measurements or the given lines."""
    rng = np.random.default_rng(number)
    sex, icu, age = (1, 0, -1)[number % 3], 1 + number % 4, 30 + 2 * number
    general = [f"RecordID,{path.stem}", f"Age,{age}", f"Gender,{sex}", "Height,-1"]
    general += [f"ICUType,{icu}", "Weight,-1"]
    if lines is None:
        hours = sorted(rng.integers(1, 48, 12))
        lines = tuple(f"{hour:02d}:15,HR,{rng.integers(60, 120)}" for hour in hours)
        lines = ("00:07,pH,7.4", *lines, "47:59,Temp,36.8")
    path.parent.mkdir(parents=True, exist_ok=True)
    head = ["Time,Parameter,Value", *(f"00:00,{line}" for line in general)]
    path.write_text("\n".join([*head, *lines]) + "\n")


def make_physionet2012(root: Path, stays: int = 30) -> Path:
    """Write three sets of stays, of whom a quarter died, and their outcomes."""
    for letter, first in (("a", 100), ("b", 200), ("c", 300)):
        rows = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
        for number in range(stays):
            write_stay(root / f"set-{letter}" / f"{first + number}.txt", number)
            rows.append(f"{first + number},6,1,5,-1,{int(number % 4 == 0)}")
        (root / f"Outcomes-{letter}.txt").write_text("\n".join(rows) + "\n")
    return root


def settings(root: Path) -> DataSettings:
    """Return the settings that name them."""
    path = make_physionet2012(root)
    return DataSettings(data=f"physionet2012:{path}", attribute=("sex", "age"))
