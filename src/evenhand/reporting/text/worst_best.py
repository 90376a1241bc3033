"""The worst and the best group of an attribute, and their gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.metrics import DETECTABLE, EVERYBODY
from evenhand.reporting.estimates import Estimate, find_rows, first_row
from evenhand.reporting.text.vocabulary import term
from evenhand.tables.levels import UNKNOWN


@dataclass(frozen=True)
class Extremes:
    """The groups that a model serves worst and best by a metric, and their gap.

    Attributes
    ----------
    worst, best
        The rows of these groups; both have values.
    groups
        The number of groups that they were picked from.
    gap
        The row of the largest minus the smallest value, None if it was not measured. Its interval
        accounts for the choice of the two groups, its corrected p-value for all comparisons of the
        page.
    detectable
        The smallest difference of two groups that would be claimed with power .8, or None.
    """

    worst: Estimate
    best: Estimate
    groups: int
    gap: Estimate | None
    detectable: float | None = None

    @property
    def differs(self) -> bool:
        """Whether a difference between the groups is claimed."""
        return self.gap is not None and self.gap.is_claimed


def extremes(rows: Sequence[Estimate], metric: str) -> Extremes | None:
    """Return the worst and the best group of one model, attribute and split.

    Excluded, ``unknown`` and undefined groups are ignored. Returns None if fewer than two different
    values remain, or if no value of the metric is better than another.
    """
    candidates = [row for row in find_rows(rows, metric=metric) if _is_compared(row)]
    better = term(metric).better
    if better == "neither" or len({row.value for row in candidates}) < 2:
        return None
    ordered = sorted(candidates, key=lambda row: row.value or 0.0, reverse=better == "lower")
    gap = first_row(rows, group=EVERYBODY, base=metric, aggregate="gap")
    reach = [row.value for row in find_rows(rows, base=metric, aggregate=DETECTABLE)]
    detectable = max((value for value in reach if value is not None), default=None)
    return Extremes(ordered[0], ordered[-1], len(candidates), gap, detectable)


def is_unknown(group: str) -> bool:
    """Return whether a group holds the samples whose level is not known."""
    return UNKNOWN in group.split("*")


def _is_compared(row: Estimate) -> bool:
    is_group = row.group != EVERYBODY and not is_unknown(row.group)
    return is_group and row.compared and row.value is not None
