"""Importance of units: how trials that tuned one did, against those that did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from evenhand.measure import Objective

LEAST = 2  # trials with and without a unit, for a spread to be known
LEVEL = 0.95


def unit_importance(trials: pd.DataFrame, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Return the mean difference of each objective between trials with and without each unit.

    Trials that were trained to their end count. The interval is Welch's (Biometrika 1947), which
    lets the two sides differ in spread. Trials are no random sample of masks, as a search goes
    where values are good: a difference is a hint, no effect.

    Parameters
    ----------
    trials
        As from `trials_table`: ``state``, ``mask`` and a column per objective.
    objectives
        Whose columns are looked at.

    Returns
    -------
    list
        One row per unit and objective: ``unit``, ``objective``, ``difference``, ``low``,
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
        for objective in objectives:
            values = done[objective.name].to_numpy(np.float64)
            rows.append({"unit": unit, "objective": objective.name} | _compared(values, tuned))
    return rows


def _compared(values: np.ndarray, tuned: np.ndarray) -> dict[str, Any]:
    one, other = values[tuned], values[~tuned]
    low = high = difference = float(one.mean() - other.mean())
    if one.std() > 0 or other.std() > 0:
        ends = ttest_ind(one, other, equal_var=False).confidence_interval(LEVEL)
        low, high = float(ends.low), float(ends.high)
    counts = {"with": len(one), "without": len(other)}
    return {"difference": difference, "low": low, "high": high} | counts
