"""The rows of ``metrics.json``: one number each, with its interval and counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import pandas as pd

EVERYBODY = "*"
"""As attribute: all samples. As group: all samples, or a number across the groups."""

COLUMNS = (
    *("model", "against", "split", "attribute", "group", "metric", "base", "aggregate"),
    *("reference", "threshold", "value", "low", "high", "level", "interval_method"),
    *("p", "p_adjusted", "n", "patients", "positives", "replicates_undefined", "undefined"),
    *("no_interval", "approximate", "p_method", "note"),
)
"""Columns of the rows, in order; the same as in ``metrics.json``."""

NUMBERS = ("threshold", "value", "low", "high", "level", "p", "p_adjusted")
COUNTS = ("n", "patients", "positives", "replicates_undefined")


class Key(NamedTuple):
    """The identity of a number among those of one model (or pair of models) and one split."""

    attribute: str
    group: str
    base: str
    aggregate: str | None = None


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One number of ``metrics.json``.

    Attributes
    ----------
    model, against, split
        The model; the other model of a paired difference; the split. None where not set.
    attribute, group
        The attribute and the group; ``"*"`` is everybody, or a number across the groups.
    base
        The name of the metric or fairness metric.
    aggregate
        How groups become one number: ``worst``, ``gap``, ``difference`` …; None for the metric
        itself.
    reference
        The reference group of a signed difference or ratio.
    threshold
        The score at and above which class 1 is decided, where the metric needs decisions.
    value, low, high, level
        The number; the ends of its interval; the nominal coverage of the interval, in (0, 1).
    interval_method
        The method of the interval.
    p, p_adjusted
        The p-value of no difference (for an AUC: of .5); the same, corrected over its family.
    n, patients, positives
        Counts of the samples, patients and positive samples that it is computed from.
    replicates_undefined
        The number of resamples in which it is undefined.
    undefined, no_interval, approximate
        The reason why it has no value; why it has no interval; why the interval may cover less
        often than ``level``, so that no verdict rests on it. None where there is no such reason.
    p_method
        The method of the p-values.
    note
        A remark on how the number was computed.
    """

    base: str
    attribute: str = EVERYBODY
    group: str = EVERYBODY
    aggregate: str | None = None
    model: str | None = None
    against: str | None = None
    split: str | None = None
    reference: str | None = None
    threshold: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    interval_method: str | None = None
    p: float | None = None
    p_adjusted: float | None = None
    n: int = 0
    patients: int = 0
    positives: int | None = None
    replicates_undefined: int | None = None
    undefined: str | None = None
    no_interval: str | None = None
    approximate: str | None = None
    p_method: str | None = None
    note: str | None = None

    @property
    def metric(self) -> str:
        """The full name.

        Examples
        --------
        >>> MetricRow(base="auc", aggregate="gap").metric, MetricRow(base="auc").metric
        ('auc_gap', 'auc')
        """
        return full_name(self.base, self.aggregate)

    @property
    def key(self) -> Key:
        """The identity of the number."""
        return Key(self.attribute, self.group, self.base, self.aggregate)

    @property
    def has_interval(self) -> bool:
        """Whether the interval has both ends."""
        return self.low is not None and self.high is not None


def full_name(base: str, aggregate: str | None) -> str:
    """Return the full name of a number: ``base``, or ``base_aggregate``."""
    return base if aggregate is None else f"{base}_{aggregate}"


def join_notes(*notes: str | None) -> str | None:
    """Return notes as one text, None where there are none."""
    return "; ".join(filter(None, notes)) or None


def as_records(rows: Iterable[MetricRow]) -> list[dict[str, Any]]:
    """Return rows as ``metrics.json`` holds them: the columns ``COLUMNS``, null for None."""
    return [dict(zip(COLUMNS, values, strict=True)) for values in map(attrgetter(*COLUMNS), rows)]


def as_table(rows: Iterable[MetricRow]) -> pd.DataFrame:
    """Return rows as a data frame with the columns ``COLUMNS``; null becomes a missing value."""
    table = pd.DataFrame(list(map(attrgetter(*COLUMNS), rows)), columns=list(COLUMNS))
    kinds = {name: "float64" if name in NUMBERS else "object" for name in COLUMNS}
    return table.astype({**kinds, **dict.fromkeys(COUNTS, "Int64")})
