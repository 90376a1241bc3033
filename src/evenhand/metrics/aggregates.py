"""What is said of one metric across groups: of all at once, or of each against a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Metric

Summary = Callable[[Floats, Metric], Floats]
"""From values ``(groups, K)`` of a metric to ``(K,)``; an undefined group makes it NaN."""

Contrast = Callable[[Floats, Floats], Floats]
"""From the values ``(K,)`` of a group and of the reference to ``(K,)``."""

Extreme = Literal["lowest", "highest"]


def worst(values: Floats, metric: Metric) -> Floats:
    """Return the worst group's value.

    Misleads where groups are small or many: the worst of several estimates is too bad by chance.
    """
    return _at(values, np.argmax(_badness(values, metric), axis=0))


def best(values: Floats, metric: Metric) -> Floats:
    """Return the best group's value.

    Misleads where groups are small or many: the best of several estimates is too good by chance.
    """
    return _at(values, np.argmin(_badness(values, metric), axis=0))


def gap(values: Floats, metric: Metric) -> Floats:
    """Return the largest minus the smallest value.

    Misleads where groups are small or many: chance alone makes the largest difference of several
    groups large. It closes, too, when the group served better is served worse.
    """
    return spread(values)


def min_ratio(values: Floats, metric: Metric) -> Floats:
    """Return the smallest over the largest value.

    Misleads where values are near 0: a small difference then is a large ratio. Chance lowers it
    where groups are small or many.
    """
    return least_ratio(values)


def spread(values: Floats) -> Floats:
    """Return the largest minus the smallest of values ``(groups, …, K)``.

    Which groups these are, the first of the K says: the data. See `distance`.
    """
    highest, lowest = _outermost(values)
    return highest - lowest


def least_ratio(values: Floats) -> Floats:
    """Return the lowest over the highest of values ``(groups, …, K)``; NaN where all are 0.

    Which groups these are, the first of the K says: the data. See `distance`.
    """
    highest, lowest = _outermost(values)
    return lowest / highest


def distance(signed: Floats) -> Floats:
    """Return the size of differences ``(…, K)`` in the data, which is the first of the K.

    A resample gives how far it lies on the side where the data lie, below 0 on the other. Its own
    size would be of no use: where two groups are alike, no resample's difference is quite 0, so
    that the percentiles of sizes never hold the truth, and may not hold the data's own size.
    """
    return np.where(signed[..., :1] < 0, -signed, signed)


def difference(group: Floats, reference: Floats) -> Floats:
    """Return the group's value less the reference's: signed, 0 at parity.

    Misleads where the reference is small or served badly: its error is in every difference.
    """
    return group - reference


def ratio(group: Floats, reference: Floats) -> Floats:
    """Return the group's value over the reference's: 1 at parity.

    Misleads where the value of the reference is near 0: a small difference then is a large ratio.
    """
    return group / reference


def ratio_deviation(group: Floats, reference: Floats) -> Floats:
    """Return the distance of the ratio from 1, as the SSL fairness framework has it.

    It is lopsided: twice as much is 1 away from parity, half as much is ½ away.

    Misleads where the value of the reference is near 0, and as it treats a half and the double as
    unequally far from 1.
    """
    return distance(1 - group / reference)


def log_ratio_deviation(group: Floats, reference: Floats) -> Floats:
    """Return the size of the log of the ratio: the same for twice as much and half as much.

    Misleads where a value is near 0: a small difference then is a large ratio.
    """
    return distance(np.log(group / reference))


def extreme(summary: str, metric: Metric) -> Extreme | None:
    """Return whether the worst or best group of a metric is the one with the lowest value.

    None where neither holds: nearest to an ideal, or no direction.
    """
    if metric.direction not in ("higher", "lower") or summary not in ("worst", "best"):
        return None
    return "lowest" if (metric.direction == "higher") == (summary == "worst") else "highest"


def why_no_extreme(summary: str, metric: Metric) -> str | None:
    """Return why a metric that only describes has no worst or best group, or None."""
    if metric.direction != "none" or summary not in ("worst", "best"):
        return None
    return f"{metric.name} only describes: no value of it is better than another"


def _badness(values: Floats, metric: Metric) -> Floats:
    """Return values that grow as the metric gets worse."""
    if metric.direction == "higher":
        return -values
    if metric.direction == "ideal":
        return np.abs(values - (metric.ideal or 0.0))
    return values


def _outermost(values: Floats) -> tuple[Floats, Floats]:
    """Return the values ``(…, K)`` of the groups that are highest and lowest in the data.

    Where all are equal there they are still two groups, the last and the first.
    """
    data = values[..., :1]
    lowest = data.argmin(axis=0)
    highest = len(data) - 1 - data[::-1].argmax(axis=0)
    return _at(values, highest), _at(values, lowest)


def _at(values: Floats, group: NDArray[np.intp]) -> Floats:
    """Return the values ``(…, K)`` of a group, ``(…, K)`` or ``(…, 1)``; NaN where any has none."""
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
