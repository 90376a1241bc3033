"""The lowest and the highest group, and whether chance alone could set them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from evenhand.report.estimates import EVERYONE, UNKNOWN, Estimate, first
from evenhand.report.terms import term


@dataclass(frozen=True)
class Extremes:
    """The group that a model serves worst by a metric, the one it serves best, and out of how many.

    Attributes
    ----------
    worst, best
        Their rows; both have values.
    groups
        How many groups they were picked from.
    """

    worst: Estimate
    best: Estimate
    groups: int

    @property
    def known_apart(self) -> bool:
        """Whether both intervals are known, so that `apart` can be asked."""
        return self.worst.has_interval and self.best.has_interval

    @property
    def apart(self) -> bool:
        """Whether the two groups differ by more than chance explains.

        Groups hold different patients, so the interval of their difference follows from their own
        (Zou and Donner, Stat. Med. 2008). It is widened by Bonferroni's rule for the number of
        pairs that the two were picked from.
        """
        low, high = sorted((self.worst, self.best), key=lambda row: row.value or 0.0)
        if low.value is None or low.high is None or high.value is None or high.low is None:
            return False
        below = math.hypot(low.high - low.value, high.value - high.low)
        pairs = self.groups * (self.groups - 1) // 2
        return high.value - low.value > _widening(low.level, pairs) * below


def extremes(rows: Sequence[Estimate], metric: str) -> Extremes | None:
    """Return the worst and the best group of one model, attribute and split.

    Groups that the metric's ``_worst`` and ``_best`` rows pass over (excluded ones) take no part,
    nor do ``unknown`` and undefined groups. None where fewer than two groups with different
    values remain, and for metrics that have no better and worse.
    """
    told = [row for row in rows if row.metric == metric and _counts(row)]
    better = term(metric).better
    if better == "nearer" or len({row.value for row in told}) < 2:
        return None
    ordered = sorted(told, key=lambda row: row.value or 0.0, reverse=better == "lower")
    worst = _named(rows, ordered, f"{metric}_worst") or ordered[0]
    best = _named(rows, ordered, f"{metric}_best") or ordered[-1]
    return Extremes(worst, best, len(told))


def is_unknown(group: str) -> bool:
    """Return whether a group holds the samples whose level is not known."""
    return UNKNOWN in group.split("*")


def _counts(row: Estimate) -> bool:
    return row.group != EVERYONE and row.value is not None and not is_unknown(row.group)


def _named(rows: Sequence[Estimate], told: Sequence[Estimate], metric: str) -> Estimate | None:
    """Return the group whose value a row across the groups has."""
    across = first(rows, group=EVERYONE, metric=metric)
    if across is None or across.value is None:
        return None
    return next((row for row in told if row.value == across.value), None)


def _widening(level: float, pairs: int) -> float:
    """Return how much longer an interval must be to hold its level over several pairs at once."""
    tail = (1 - level) / 2
    return NormalDist().inv_cdf(1 - tail / pairs) / NormalDist().inv_cdf(1 - tail)
