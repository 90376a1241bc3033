"""Aggregates over groups, and contrasts with a reference group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Metric

SummaryFunction = Callable[[Floats, Metric], Floats]
"""Function of a metric's values ``(groups, K)``; returns ``(K,)``, NaN if a group is undefined."""

ContrastFunction = Callable[[Floats, Floats], Floats]
"""Function of the values ``(K,)`` of a group and of the reference; returns ``(K,)``."""

Extreme = Literal["lowest", "highest"]


def worst(values: Floats, metric: Metric) -> Floats:
    """Return the worst group's value.

    Misleads where groups are small or many: the worst of several estimates is too bad by chance.
    """
    return _take_group(values, np.argmax(_badness(values, metric), axis=0))


def best(values: Floats, metric: Metric) -> Floats:
    """Return the best group's value.

    Misleads where groups are small or many: the best of several estimates is too good by chance.
    """
    return _take_group(values, np.argmin(_badness(values, metric), axis=0))


def gap(values: Floats, metric: Metric) -> Floats:
    """Return the largest minus the smallest value.

    Misleads where groups are small or many: chance alone makes the largest difference of several
    groups large. It also shrinks where the better served group gets worse.
    """
    return spread(values)


def min_ratio(values: Floats, metric: Metric) -> Floats:
    """Return the smallest over the largest value.

    Misleads where values are near 0: a small difference is then a large ratio. Chance lowers it
    where groups are small or many.
    """
    return least_ratio(values)


def spread(values: Floats) -> Floats:
    """Return the largest minus the smallest of values ``(groups, …, K)``.

    The first of the K values, from the data, decides which groups these are. See `distance`.
    """
    highest, lowest = _outermost(values)
    return highest - lowest


def least_ratio(values: Floats) -> Floats:
    """Return the lowest over the highest of values ``(groups, …, K)``; NaN where all are 0.

    The first of the K values, from the data, decides which groups these are. See `distance`.
    """
    highest, lowest = _outermost(values)
    return lowest / highest


def distance(signed: Floats) -> Floats:
    """Return differences ``(…, K)`` with the sign that makes the data's difference positive.

    The first of the K values is from the data. A resample is negative where its difference has the
    opposite sign of the data's. Absolute values would not work: if two groups are equal, hardly
    any resample has a difference of exactly 0. A percentile interval of absolute values then
    excludes the true value 0, and may exclude the data's value.
    """
    return np.where(signed[..., :1] < 0, -signed, signed)


def signed_difference(group: Floats, reference: Floats) -> Floats:
    """Return the group's value less the reference's: signed, 0 at parity.

    Misleads where the reference is small or served badly: its error is in every difference.
    """
    return group - reference


def ratio(group: Floats, reference: Floats) -> Floats:
    """Return the group's value over the reference's: 1 at parity.

    Misleads where the value of the reference is near 0: a small difference is then a large ratio.
    """
    return group / reference


def ratio_deviation(group: Floats, reference: Floats) -> Floats:
    """Return the distance of the ratio from 1, as in the SSL fairness framework.

    It is asymmetric: a ratio of 2 is 1 away from parity, a ratio of ½ is ½ away.

    Misleads where the value of the reference is near 0. It also calls a ratio of 2 farther from
    parity than a ratio of ½.
    """
    return distance(1 - group / reference)


def log_ratio_deviation(group: Floats, reference: Floats) -> Floats:
    """Return the absolute log of the ratio; it is the same for ratios of 2 and ½.

    Misleads where a value is near 0: a small difference is then a large ratio.
    """
    return distance(np.log(group / reference))


def extreme(summary: str, metric: Metric) -> Extreme | None:
    """Return which value the worst or best group of a metric has, ``"lowest"`` or ``"highest"``.

    Returns None for other summaries, and for metrics whose direction is ``"ideal"`` or ``"none"``.
    """
    if metric.direction not in ("higher", "lower") or summary not in ("worst", "best"):
        return None
    return "lowest" if (metric.direction == "higher") == (summary == "worst") else "highest"


def why_no_extreme(summary: str, metric: Metric) -> str | None:
    """Return why a metric without a better direction has no worst or best group, else None."""
    if metric.direction != "none" or summary not in ("worst", "best"):
        return None
    return f"{metric.name} has no better direction, so no group is the {summary} one"


def _badness(values: Floats, metric: Metric) -> Floats:
    """Return values that grow as the metric gets worse."""
    if metric.direction == "higher":
        return -values
    if metric.direction == "ideal":
        return np.abs(values - (metric.ideal or 0.0))
    return values


def _outermost(values: Floats) -> tuple[Floats, Floats]:
    """Return the values ``(…, K)`` of the groups that are highest and lowest in the data.

    If all groups are equal in the data, these are the last and the first group.
    """
    data = values[..., :1]
    lowest = data.argmin(axis=0)
    highest = len(data) - 1 - data[::-1].argmax(axis=0)
    return _take_group(values, highest), _take_group(values, lowest)


def _take_group(values: Floats, group: NDArray[np.intp]) -> Floats:
    """Return the values ``(…, K)`` of chosen groups, NaN where any group is undefined.

    Parameters
    ----------
    values
        ``(groups, …, K)``.
    group
        The index of the group to take, ``(…, K)`` or ``(…, 1)``.
    """
    chosen: Floats = np.take_along_axis(values, group[None], axis=0)[0]
    return np.where(np.isnan(values).any(axis=0), np.nan, chosen)


SUMMARIES: dict[str, SummaryFunction] = {
    "worst": worst,
    "best": best,
    "gap": gap,
    "min_ratio": min_ratio,
}
"""Summaries over groups by name; their metric rows are ``auc_worst``, ``auc_gap`` …"""

CONTRASTS: dict[str, ContrastFunction] = {
    "difference": signed_difference,
    "ratio": ratio,
    "ratio_deviation": ratio_deviation,
    "log_ratio_deviation": log_ratio_deviation,
}
"""Contrasts by name. Each group but the reference has a metric row, ``auc_difference`` …"""

DETECTABLE = "detectable"
"""Name of the detectable difference from the reference; its metric rows are ``auc_detectable`` …"""
