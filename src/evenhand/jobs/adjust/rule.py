"""The decision rule of an adjusted model as a table of groups, which an exported network uses."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import DecisionThreshold
from evenhand.jobs.adjust.adjustment import Adjustment
from evenhand.methods.afterwards.multicalibrate import Multicalibrated
from evenhand.methods.afterwards.recalibrate import Recalibrated
from evenhand.methods.afterwards.thresholds import Thresholds
from evenhand.methods.arrays import logit
from evenhand.methods.attribute_free import AttributeFree
from evenhand.networks.adjusted import GroupRule
from evenhand.tables.attributes import attribute_parts
from evenhand.tables.levels import UNKNOWN
from evenhand.tables.predictions import Predictions

MAX_COMBINATIONS = 100_000
"""The largest number of combinations of levels in a table."""


def group_rule(
    adjustment: Adjustment, cut: DecisionThreshold, predictions: Predictions
) -> GroupRule:
    """Return the adjustment of scores and the threshold of each group.

    Parameters
    ----------
    adjustment
        The fitted method.
    cut
        The decision thresholds of the adjusted scores.
    predictions
        Predictions of the adjusted model; only the levels of their attributes are read.

    Raises
    ------
    EvenhandError
        If the method is the user's own, or the attributes have too many combinations of levels.
    """
    fit, by = adjustment.fit, " and ".join(adjustment.by)
    if isinstance(fit, AttributeFree) and fit.rule == "inferred":
        cuts = tuple(cut.by_level[level] for level in fit.head.levels)
        inferred = (fit.head.weight, fit.head.bias)
        return GroupRule(fit.head.levels, None, None, cuts, inferred, by)
    if adjustment.in_weights:
        return GroupRule((UNKNOWN,), None, None, (cut.threshold,), None, by)
    if isinstance(fit, Thresholds):
        groups = (*fit.groups, UNKNOWN)
        cuts = tuple(cut.by_level.get(level, cut.threshold) for level in groups)
        return GroupRule(groups, None, None, cuts, None, by)
    if isinstance(fit, Recalibrated):
        groups = (*fit.groups, UNKNOWN)
        lines = [fit.groups.get(level, fit.pooled) for level in groups]
        slope = tuple(line.slope for line in lines)
        intercept = tuple(line.intercept for line in lines)
        return GroupRule(groups, slope, intercept, (cut.threshold,) * len(groups), None, by)
    if isinstance(fit, Multicalibrated):
        return _combinations(fit, cut, predictions, by)
    raise EvenhandError(
        f"{adjustment.text} is a method of your own, whose fit is not stored and cannot be "
        "exported. Apply it in Python: evenhand.mitigate."
    )


def _combinations(
    fit: Multicalibrated, cut: DecisionThreshold, predictions: Predictions, by: str
) -> GroupRule:
    """Return the shift of the log-odds for each combination of levels, unknown among them."""
    names = dict.fromkeys(part for name in fit.attributes for part in attribute_parts(name))
    levels = [(*predictions.levels[name], UNKNOWN) for name in names]
    count = math.prod(map(len, levels))
    if count > MAX_COMBINATIONS:
        raise EvenhandError(
            f"{by} have {count:,} combinations of levels; at most {MAX_COMBINATIONS:,} can be "
            "exported. Adjust by fewer attributes."
        )
    table = pd.DataFrame(list(product(*levels)), columns=list(names))
    shifts = logit(fit.apply(np.full(count, 0.5), table))
    groups = tuple(
        ", ".join(f"{name}={level}" for name, level in row.items())
        for row in table.to_dict("records")
    )
    ones = (1.0,) * count
    return GroupRule(groups, ones, tuple(shifts.tolist()), (cut.threshold,) * count, None, by)
