"""Metric rows as the report shows them, with indexes to look them up, and the extreme groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from evenhand.metrics import CLAIM, DETECTABLE, EVERYBODY, FAIRNESS, MetricRow
from evenhand.reporting.text.vocabulary import Term, model_names, term
from evenhand.tables.attributes import UNKNOWN

NO_VALUE = "no value was given"
"""Reason for a row without a value that gives no reason."""


@dataclass(frozen=True, kw_only=True)
class Estimate(MetricRow):
    """A row of ``metrics.json``, with the shown names of its models.

    Attributes
    ----------
    compared
        Whether its group takes part in comparisons, that is, is not excluded.
    """

    model: str = ""
    split: str = "all"
    compared: bool = True

    @property
    def term(self) -> Term:
        """The words for its metric and aggregate."""
        return term(self.base, self.aggregate)

    @property
    def base_term(self) -> Term:
        """The words for its metric."""
        return term(self.base)

    @property
    def is_of_group(self) -> bool:
        """Whether it is about a single group or everybody, not about several groups together."""
        return self.aggregate is None and self.base not in FAIRNESS

    @property
    def is_claimed(self) -> bool:
        """Whether a difference is claimed: its corrected p-value is small, and not approximate."""
        p = self.p_adjusted
        return p is not None and p <= CLAIM and self.approximate is None


class Estimates(tuple[Estimate, ...]):
    """Estimates with an index for each set of fields, which is built at its first use."""

    @cached_property
    def _indexes(self) -> dict[tuple[str, ...], dict[object, list[Estimate]]]:
        return {}

    @cached_property
    def _results(self) -> dict[tuple[tuple[str, ...], object], Estimates]:
        return {}

    def where(self, **wanted: object) -> Estimates:
        """Return the estimates whose fields have the wanted values, in their order."""
        fields = tuple(sorted(wanted))
        if not fields:
            return self
        if fields not in self._indexes:
            self._indexes[fields] = self._indexed(fields)
        values = tuple(wanted[name] for name in fields)
        key = values if len(values) > 1 else values[0]
        if (fields, key) not in self._results:
            rows = self._indexes[fields].get(key, ())
            self._results[fields, key] = Estimates(rows) if rows else NO_ESTIMATES
        return self._results[fields, key]

    def _indexed(self, fields: tuple[str, ...]) -> dict[object, list[Estimate]]:
        """Return the rows by the tuple of their field values, or by the value of a single field."""
        index: dict[object, list[Estimate]] = {}
        for key, row in zip(map(attrgetter(*fields), self), self, strict=True):
            index.setdefault(key, []).append(row)
        return index


NO_ESTIMATES = Estimates()


def estimates(
    rows: Iterable[MetricRow], files: Iterable[Path] = (), excluded: Collection[str] = ()
) -> Estimates:
    """Return metric rows as estimates, in their order.

    Parameters
    ----------
    rows
        The metric rows.
    files
        The files that models are named after; see `model_names`.
    excluded
        The groups that take no part in comparisons, as ``attribute=level``.
    """
    shown_names = model_names(files)
    return Estimates(_estimate(row, shown_names, excluded) for row in rows)


def find_rows(rows: Iterable[Estimate], **wanted: object) -> Estimates:
    """Return the rows whose fields have the wanted values."""
    return (rows if isinstance(rows, Estimates) else Estimates(rows)).where(**wanted)


def first_row(rows: Iterable[Estimate], **wanted: object) -> Estimate | None:
    """Return the first row whose fields have the wanted values, or None."""
    return next(iter(find_rows(rows, **wanted)), None)


def names(rows: Iterable[Estimate], field: str) -> tuple[str, ...]:
    """Return the values of a field in the order in which they first appear."""
    return tuple(dict.fromkeys(map(attrgetter(field), rows)))


def _estimate(
    row: MetricRow, shown_names: Mapping[str, str], excluded: Collection[str]
) -> Estimate:
    model, against = row.model or "", row.against
    shown = {
        "model": shown_names.get(model, model),
        "against": shown_names.get(against, against) if against else None,
        "split": row.split or "all",
    }
    compared = f"{row.attribute.partition('|')[0]}={row.group}" not in excluded
    return Estimate(**{**vars(row), **shown}, compared=compared)


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
