"""Numbers with what each patient does to them, from which all intervals are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from evenhand.metrics.registry import Floats

DRAWS = 2000
"""Draws of the largest of several errors."""


@dataclass(frozen=True, eq=False)
class Jackknifed:
    """Numbers, and the influence of each patient on them.

    Attributes
    ----------
    value
        Of any shape.
    influence
        ``(N, *shape)``, 0 for a patient who takes no part: how far the numbers lie from what they
        are without the patient, so scaled that the sum of squares is the variance (the
        jackknife; Efron & Stein, Ann. Stat. 1981: on average it is not too small).
    """

    value: Floats
    influence: Floats

    @property
    def error(self) -> Floats:
        """The standard error of each number."""
        error: Floats = np.sqrt(np.square(self.influence).sum(axis=0))
        return error

    def less(self, other: Jackknifed) -> Jackknifed:
        """Return the difference; a patient in both counts as one."""
        return Jackknifed(self.value - other.value, self.influence - other.influence)

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Return the ends of an interval for each number."""
        reach = -ndtri((1 - level) / 2) * self.error
        return self.value - reach, self.value + reach


@dataclass(frozen=True)
class MeanSize:
    """How large several numbers are: the mean of their sizes, with an interval."""

    value: float
    low: float
    high: float


def mean_size(numbers: Jackknifed, level: float, rng: np.random.Generator) -> MeanSize:
    """Return the mean of |number| with an interval.

    Sizes of numbers that are 0 in truth are not 0 on average, and a plain interval would never
    hold 0. So all numbers get intervals that hold at the same time (the quantile of the largest
    |t|, from normal draws of the patients' influence), and the ends are means over these: the low
    end is 0 where every one of them holds 0.
    """
    flat, error = numbers.value.ravel(), numbers.error.ravel()
    influence = numbers.influence.reshape(len(numbers.influence), -1)
    drawn = rng.standard_normal((DRAWS, len(influence))) @ influence
    largest = np.abs(drawn / np.where(error > 0, error, 1)).max(axis=1)
    reach = np.quantile(largest, level) * error
    size = np.abs(flat)
    return MeanSize(
        float(size.mean()),
        float(np.maximum(size - reach, 0).mean()),
        float((size + reach).mean()),
    )


def size_ratio(
    first: Jackknifed, other: Jackknifed, level: float, rng: np.random.Generator
) -> MeanSize | None:
    """Return mean |one| over mean |other| with an interval, None where there is no such claim.

    There is none where the interval of the denominator (see `mean_size`) holds 0. The interval is
    Fieller's (J. R. Stat. Soc. B 1954), as both come from the same patients; it is None, too,
    where that has no end.
    """
    if not mean_size(other, level, rng).low > 0:
        return None
    return ratio_of(absolute_mean(first), absolute_mean(other), float(-ndtri((1 - level) / 2)))


def ratio_of(above: Jackknifed, below: Jackknifed, quantile: float) -> MeanSize | None:
    """Return the ratio of two numbers that rest on the same patients, with Fieller's interval.

    ``quantile`` is that of the errors at the upper end. None where the interval has no end.
    """
    q2 = quantile**2
    a = below.value**2 - q2 * np.square(below.influence).sum()
    b = above.value * below.value - q2 * (above.influence * below.influence).sum()
    c = above.value**2 - q2 * np.square(above.influence).sum()
    if a <= 0:
        return None
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return MeanSize(float(above.value / below.value), max(0.0, (b - root) / a), (b + root) / a)


def absolute_mean(numbers: Jackknifed) -> Jackknifed:
    """Return the mean of |number|, its influence that of the numbers with their signs."""
    sign = np.sign(numbers.value)
    influence = (sign * numbers.influence).reshape(len(numbers.influence), -1).mean(axis=1)
    return Jackknifed(np.abs(numbers.value).mean(), influence)
