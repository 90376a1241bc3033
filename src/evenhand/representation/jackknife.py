"""Estimates with each patient's influence, and their intervals (jackknife)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from evenhand.metrics.registry import Floats

DRAWS = 2000
"""Number of draws for the distribution of the largest of several errors."""


@dataclass(frozen=True, eq=False)
class JackknifeEstimate:
    """Numbers, and the influence of each patient on them.

    Attributes
    ----------
    value
        The numbers, of any shape.
    influence
        ``(N, *shape)``: the numbers minus their values without the patient, scaled so that the sum
        of squares over patients is the variance; 0 for a patient who was not used. On average, this
        variance (jackknife) is not below the true one: Efron & Stein, Ann. Stat. 1981.
    """

    value: Floats
    influence: Floats

    @property
    def error(self) -> Floats:
        """The standard error of each number."""
        error: Floats = np.sqrt(np.square(self.influence).sum(axis=0))
        return error

    def minus(self, other: JackknifeEstimate) -> JackknifeEstimate:
        """Return this minus another, on the same patients."""
        return JackknifeEstimate(self.value - other.value, self.influence - other.influence)

    def defined(self) -> JackknifeEstimate:
        """Return the numbers that are defined, ``(k,)``: those of pairs of layers that vary."""
        defined = np.isfinite(self.value)
        return JackknifeEstimate(self.value[defined], self.influence[:, defined])

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Return the ends of a normal interval for each number; ``level`` is its coverage."""
        margin = -ndtri((1 - level) / 2) * self.error
        return self.value - margin, self.value + margin


@dataclass(frozen=True)
class IntervalEstimate:
    """A number with its interval, such as the mean of |number| over layers."""

    value: float
    low: float
    high: float


def mean_absolute_interval(
    numbers: JackknifeEstimate, level: float, rng: np.random.Generator
) -> IntervalEstimate:
    """Return the mean of |number| with an interval.

    If all true numbers are 0, their estimates still differ from 0, so the mean of |estimate| is too
    large and a plain interval around it excludes 0. Instead, each number gets a simultaneous
    interval (with the quantile of the largest |t|, from normal draws of the patients' influence).
    The ends are means over these intervals; the low end is 0 if all of them contain 0.
    """
    flat, error = numbers.value.ravel(), numbers.error.ravel()
    influence = numbers.influence.reshape(len(numbers.influence), -1)
    drawn = rng.standard_normal((DRAWS, len(influence))) @ influence
    largest = np.abs(drawn / np.where(error > 0, error, 1)).max(axis=1)
    margin = np.quantile(largest, level) * error
    size = np.abs(flat)
    return IntervalEstimate(
        float(size.mean()),
        float(np.maximum(size - margin, 0).mean()),
        float((size + margin).mean()),
    )


def size_ratio(
    first: JackknifeEstimate, other: JackknifeEstimate, level: float, rng: np.random.Generator
) -> IntervalEstimate | None:
    """Return mean |first| / mean |other| with Fieller's interval (J. R. Stat. Soc. B 1954).

    Both come from the same patients. The result is None if the interval of the denominator
    (`mean_absolute_interval`) contains 0, or if Fieller's interval is unbounded.
    """
    if not mean_absolute_interval(other, level, rng).low > 0:
        return None
    return ratio_of(mean_absolute(first), mean_absolute(other), float(-ndtri((1 - level) / 2)))


def ratio_of(
    numerator: JackknifeEstimate, denominator: JackknifeEstimate, quantile: float
) -> IntervalEstimate | None:
    """Return the ratio of two numbers on the same patients, with Fieller's interval.

    ``quantile`` is half the width of the interval in standard errors. The result is None if the
    interval is unbounded.
    """
    # The interval holds the ratios r with a r² − 2 b r + c ≤ 0 (Fieller).
    q2 = quantile**2
    a = denominator.value**2 - q2 * np.square(denominator.influence).sum()
    b = (
        numerator.value * denominator.value
        - q2 * (numerator.influence * denominator.influence).sum()
    )
    c = numerator.value**2 - q2 * np.square(numerator.influence).sum()
    if a <= 0:
        return None
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return IntervalEstimate(
        float(numerator.value / denominator.value), max(0.0, (b - root) / a), (b + root) / a
    )


def mean_absolute(numbers: JackknifeEstimate) -> JackknifeEstimate:
    """Return the mean of |number|; its influence is that of the mean of sign · number."""
    sign = np.sign(numbers.value)
    influence = (sign * numbers.influence).reshape(len(numbers.influence), -1).mean(axis=1)
    return JackknifeEstimate(np.abs(numbers.value).mean(), influence)
