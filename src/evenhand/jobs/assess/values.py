"""Numbers of an assessment: values with intervals, differences, and counts of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evenhand.metrics.parity import percentile_interval
from evenhand.metrics.recipes import rarer_patients
from evenhand.metrics.registry import Floats
from evenhand.metrics.scored import Scored
from evenhand.metrics.seeds import RecipeDifference


@dataclass(frozen=True)
class Value:
    """A number with its interval; None if undefined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Floats) -> Value:
        """Return the first of the values ``(1 + B,)`` with the percentile interval of the rest."""
        interval = percentile_interval(values)
        value = float(values[0]) if np.isfinite(values[0]) else None
        return cls(value, *(interval or (None, None)))

    @classmethod
    def of_size(cls, values: Floats) -> Value:
        """Return the value of a number that is at least 0, with an interval at or above 0."""
        size = cls.of(values)
        return size.within(0.0, np.inf)

    def within(self, lowest: float, highest: float) -> Value:
        """Return the value with an interval that is cut at its smallest and largest possible value.

        Examples
        --------
        >>> Value(0.9, -0.3, 2.1).within(0, 1)
        Value(value=0.9, low=0, high=1)
        """
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, lowest), high=min(self.high, highest))


@dataclass(frozen=True)
class Change:
    """The difference of a number between two cells.

    Attributes
    ----------
    value
        The difference of the cells' means over seeds, on the data; None if it is undefined.
    difference
        The same with interval and p-value; None if too few resamples have a value.
    """

    value: float | None
    difference: RecipeDifference | None

    @property
    def shown(self) -> Value:
        """The value with its interval, for the page."""
        if self.difference is None:
            return Value(self.value, None, None)
        return Value(self.value, self.difference.low, self.difference.high)


@dataclass(frozen=True)
class RowCounts:
    """Counts behind a number: rows, patients, positives, and patients of the rarer class."""

    n: int
    patients: int
    positives: int
    rarer: int

    @classmethod
    def of(cls, rows: Scored) -> RowCounts:
        """Count the rows."""
        return cls(len(rows), len(rows.members), int(rows.labels.sum()), rarer_patients(rows))
