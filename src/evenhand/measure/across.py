"""What is said of one metric across groups: of all at once, or of each against a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenhand.measure.registry import Floats, Metric

Summary = Callable[[Floats, Metric], Floats]
"""From values ``(groups, K)`` of a metric to ``(K,)``; an undefined group makes it NaN."""

Contrast = Callable[[Floats, Floats], Floats]
"""From the values ``(K,)`` of a group and of the reference to ``(K,)``."""

Extreme = Literal["lowest", "highest"]


def worst(values: Floats, metric: Metric) -> Floats:
    """Return the worst group's value."""
    return _at(values, np.argmax(_badness(values, metric), axis=0))


def best(values: Floats, metric: Metric) -> Floats:
    """Return the best group's value."""
    return _at(values, np.argmin(_badness(values, metric), axis=0))


def gap(values: Floats, metric: Metric) -> Floats:
    """Return the largest minus the smallest value."""
    return spread(values)


def min_ratio(values: Floats, metric: Metric) -> Floats:
    """Return the smallest over the largest value."""
    return least_ratio(values)


def spread(values: Floats) -> Floats:
    """Return the largest minus the smallest of values ``(groups, …)``."""
    distance: Floats = values.max(axis=0) - values.min(axis=0)
    return distance


def least_ratio(values: Floats) -> Floats:
    """Return the smallest over the largest of values ``(groups, …)``; NaN where all are 0."""
    ratio: Floats = values.min(axis=0) / values.max(axis=0)
    return ratio


def difference(group: Floats, reference: Floats) -> Floats:
    """Return the group's value less the reference's: signed, 0 at parity."""
    return group - reference


def ratio(group: Floats, reference: Floats) -> Floats:
    """Return the group's value over the reference's: 1 at parity."""
    return group / reference


def ratio_deviation(group: Floats, reference: Floats) -> Floats:
    """Return the distance of the ratio from 1, as the SSL fairness framework has it.

    It is lopsided: twice as much is 1 away from parity, half as much is ½ away.
    """
    return np.abs(1 - group / reference)


def log_ratio_deviation(group: Floats, reference: Floats) -> Floats:
    """Return the size of the log of the ratio: the same for twice as much and half as much."""
    return np.abs(np.log(group / reference))


def extreme(summary: str, metric: Metric) -> Extreme | None:
    """Return whether the worst or best group of a metric is the one with the lowest value.

    None where neither holds: nearest to an ideal, or no direction.
    """
    if metric.direction not in ("higher", "lower") or summary not in ("worst", "best"):
        return None
    return "lowest" if (metric.direction == "higher") == (summary == "worst") else "highest"


def _badness(values: Floats, metric: Metric) -> Floats:
    """Return values that grow as the metric gets worse."""
    if metric.direction == "higher":
        return -values
    if metric.direction == "ideal":
        return np.abs(values - (metric.ideal or 0.0))
    return values


def _at(values: Floats, group: NDArray[np.intp]) -> Floats:
    chosen: Floats = np.take_along_axis(values, group[None], axis=0)[0]
    return np.where(np.isnan(values).any(axis=0), np.nan, chosen)


SUMMARIES: dict[str, Summary] = {
    "worst": worst,
    "best": best,
    "gap": gap,
    "min_ratio": min_ratio,
}
"""Rows call them ``auc_worst``, ``auc_gap`` …, with group ``"*"``."""

CONTRASTS: dict[str, Contrast] = {
    "difference": difference,
    "ratio": ratio,
    "ratio_deviation": ratio_deviation,
    "log_ratio_deviation": log_ratio_deviation,
}
"""Rows call them ``auc_difference`` …, one for each group that is not the reference."""

DETECTABLE = "detectable"
"""Rows call it ``auc_detectable``: the difference from the reference that would be found."""
