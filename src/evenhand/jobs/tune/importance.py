"""Importance of units: how trials that tuned one did, against those that did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from evenhand.metrics import Target

LEAST = 2  # trials with and without a unit, for a spread to be known
LEVEL = 0.95


def unit_importance(trials: pd.DataFrame, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Return the mean difference of each target between trials with and without each unit.

    Trials that were trained to their end count. The interval is Welch's (Biometrika 1947), which
    lets the two sides differ in spread. Trials are no random sample of masks, as a search goes
    where values are good: a difference is a hint, no effect.

    Parameters
    ----------
    trials
        As from `trials_table`: ``state``, ``mask`` and a column per target.
    targets
        Whose columns are looked at.

    Returns
    -------
    list
        One row per unit and target: ``unit``, ``target``, ``difference``, ``low``,
        ``high``, ``with`` and ``without`` (numbers of trials). A unit that fewer than two trials
        tune, or leave out, has none.
    """
    done = trials[trials["state"] == "complete"]
    masks = [set(mask.split()) for mask in done["mask"]]
    rows = []
    for unit in sorted(set().union(*masks)):
        tuned = np.array([unit in mask for mask in masks])
        if min(tuned.sum(), (~tuned).sum()) < LEAST:
            continue
        for target in targets:
            values = done[target.name].to_numpy(np.float64)
            rows.append({"unit": unit, "objective": target.name} | _compared(values, tuned))
    return rows


def _compared(values: NDArray[np.float64], tuned: NDArray[np.bool_]) -> dict[str, Any]:
    sides = values[tuned], values[~tuned]
    difference = float(sides[0].mean() - sides[1].mean())
    squares = np.array([side.var(ddof=1) / len(side) for side in sides])  # of the means' errors
    half = 0.0
    if squares.sum() > 0:
        freedom = squares.sum() ** 2 / sum(
            square**2 / (len(side) - 1) for square, side in zip(squares, sides, strict=True)
        )
        half = float(student.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(squares.sum()))
    ends = {"difference": difference, "low": difference - half, "high": difference + half}
    return ends | {"with": len(sides[0]), "without": len(sides[1])}
