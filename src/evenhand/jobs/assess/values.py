"""Numbers of an assessment: values with their intervals, differences, and what they rest on."""

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
    """A number with its interval, where it has one."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Floats) -> Value:
        """Return the data's value and the percentile interval of its resamples."""
        interval = percentile_interval(values)
        value = float(values[0]) if np.isfinite(values[0]) else None
        return cls(value, *(interval or (None, None)))

    @classmethod
    def of_size(cls, values: Floats) -> Value:
        """Return the value of a size, whose interval never goes below 0."""
        size = cls.of(values)
        return size if size.low is None else replace(size, low=max(size.low, 0.0))


@dataclass(frozen=True)
class Change:
    """One number of a cell less that of another.

    Attributes
    ----------
    value
        The cell's mean over seeds less the other's, on the data; None where it is undefined.
    difference
        The same with interval and p-value; None where too few resamples have a value.
    """

    value: float | None
    difference: RecipeDifference | None

    @property
    def shown(self) -> Value:
        """The value and its interval."""
        if self.difference is None:
            return Value(self.value, None, None)
        return Value(self.value, self.difference.low, self.difference.high)


@dataclass(frozen=True)
class RowCounts:
    """How many rows, patients, positives and patients of the rarer class a number rests on."""

    n: int
    patients: int
    positives: int
    rarer: int
    """Patients of the rarer class."""

    @classmethod
    def of(cls, rows: Scored) -> RowCounts:
        """Count some rows."""
        return cls(len(rows), len(rows.members), int(rows.labels.sum()), rarer_patients(rows))
