"""The lowest and the highest group, and whether chance explains the gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.metrics import DETECTABLE, EVERYBODY
from evenhand.reporting.estimates import UNKNOWN, Estimate, find, first
from evenhand.reporting.text.vocabulary import term


@dataclass(frozen=True)
class Extremes:
    """The group that a model serves worst by a metric, the one it serves best, and the gap.

    Attributes
    ----------
    worst, best
        Their rows; both have values.
    groups
        How many groups they were picked from.
    gap
        The row of the greatest minus the smallest, None where it was not measured. Its interval
        allows for the picking, its corrected p-value for all that the page compares.
    detectable
        The smallest difference of two groups that would be claimed with the usual power, None
        where it is not known.
    """

    worst: Estimate
    best: Estimate
    groups: int
    gap: Estimate | None
    detectable: float | None = None

    @property
    def apart(self) -> bool:
        """Whether the groups differ by more than chance explains."""
        return self.gap is not None and self.gap.claimed


def extremes(rows: Sequence[Estimate], metric: str) -> Extremes | None:
    """Return the worst and the best group of one model, attribute and split.

    Excluded, ``unknown`` and undefined groups take no part. None where fewer than two groups with
    different values remain, and for metrics that have no better and worse.
    """
    candidates = [row for row in find(rows, metric=metric) if _counts(row)]
    better = term(metric).better
    if better == "neither" or len({row.value for row in candidates}) < 2:
        return None
    ordered = sorted(candidates, key=lambda row: row.value or 0.0, reverse=better == "lower")
    gap = first(rows, group=EVERYBODY, base=metric, aggregate="gap")
    reach = [row.value for row in find(rows, base=metric, aggregate=DETECTABLE)]
    detectable = max((value for value in reach if value is not None), default=None)
    return Extremes(ordered[0], ordered[-1], len(candidates), gap, detectable)


def is_unknown(group: str) -> bool:
    """Return whether a group holds the samples whose level is not known."""
    return UNKNOWN in group.split("*")


def _counts(row: Estimate) -> bool:
    of_group = row.group != EVERYBODY and not is_unknown(row.group)
    return of_group and row.compared and row.value is not None
