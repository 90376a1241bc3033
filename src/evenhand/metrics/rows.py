"""The rows of ``metrics.json``: one number each, with what it is about, its interval and counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

EVERYBODY = "*"
"""As attribute: all samples; as group: all of them, or a number across the groups."""

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
    """What a number is about, among those of one model (or pair of models) and split."""

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
        The model; the other model of a paired difference; the split. None where the caller has
        not said.
    attribute, group
        What it is about: ``"*"`` is everybody, or a number across the groups.
    base
        The metric, or the named fairness metric, that it is a value of.
    aggregate
        What is taken of the metric across groups: ``worst``, ``gap``, ``difference`` …; None for
        the metric itself.
    reference
        The group that a signed difference or ratio is taken from.
    threshold
        Where scores were cut into the decisions that it needs.
    value, low, high, level
        The number, the ends of its interval and the level of that.
    interval_method
        How the interval was made.
    p, p_adjusted
        The p-value of no difference (an AUC: of chance), and the same corrected over the family.
    n, patients, positives
        Counts of the rows behind it.
    replicates_undefined
        Resamples in which it is undefined.
    undefined, no_interval, approximate
        Why it has no value; why it has no interval; why the interval may cover less often than
        ``level`` says, so that no verdict rests on it. None where that is not so.
    p_method
        How the p-values were made.
    note
        What else must be known about how it was made.
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
        """What it is about."""
        return Key(self.attribute, self.group, self.base, self.aggregate)

    @property
    def has_interval(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None


def full_name(base: str, aggregate: str | None) -> str:
    """Return the name of a number: that of its metric, with the aggregate behind it."""
    return base if aggregate is None else f"{base}_{aggregate}"


def joined(*notes: str | None) -> str | None:
    """Return notes as one text, None where there are none."""
    return "; ".join(filter(None, notes)) or None


def as_records(rows: Iterable[MetricRow]) -> list[dict[str, Any]]:
    """Return rows as ``metrics.json`` holds them: the columns ``COLUMNS``, null for None."""
    return [{name: getattr(row, name) for name in COLUMNS} for row in rows]


def as_table(rows: Iterable[MetricRow]) -> pd.DataFrame:
    """Return rows as a data frame with the columns ``COLUMNS``; what is null is missing."""
    table = pd.DataFrame(as_records(rows), columns=list(COLUMNS))
    kinds = {name: "float64" if name in NUMBERS else "object" for name in COLUMNS}
    return table.astype({**kinds, **dict.fromkeys(COUNTS, "Int64")})
