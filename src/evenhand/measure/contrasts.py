"""Differences of two values, and the test of all differences of a page together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm, t

from evenhand.measure.families import SAME, Family
from evenhand.measure.permutation import holm
from evenhand.measure.registry import Floats
from evenhand.measure.stepdown import Adjusted, step_down

FEWEST = 0.5
"""Share of the resamples in which a difference must be defined to be tested."""

HALVINGS = 60
"""Steps of the search for the p-value of an exact interval."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two values of a difference, prepared for tests.

    Attributes
    ----------
    group
        The group that has the value.
    values
        ``(1 + B,)``, the value in the data and in the resamples.
    scaled
        ``(1 + B,)``, the same on the scale of the test.
    cases
        Effective sample size: how many independent cases would give the same variance.
    trials
        The number of patients behind a share of 0 or 1 that no resample changes, else 0.
    """

    group: str
    values: Floats
    scaled: Floats
    cases: float
    trials: int = 0

    @cached_property
    def error(self) -> float:
        """The standard error of the value."""
        return _spread(self.values[1:])

    @cached_property
    def variance(self) -> float:
        """The variance of the value on the scale of the test."""
        return _spread(self.scaled[1:]) ** 2

    @property
    def usable(self) -> bool:
        """Whether the value is defined and its error can be estimated."""
        return not np.isnan(self.values[0]) and (self.trials > 0 or self.variance > SAME**2)


def side(group: str, values: Floats, patients: int, *, share: bool, trials: int = 0) -> Side:
    """Prepare a group's value and its resamples ``(1 + B,)``, given its number of patients.

    Notes
    -----
    Shares are tested as log odds: on that scale the error depends less on the value, and resamples
    are nearly symmetric. Half a case is added to hits and to misses, which keeps 0 and 1 finite and
    removes most of the bias (Haldane 1956; Anscombe 1956). The number of cases is that of a
    binomial with the variance of the resamples.
    """
    if not share:
        return Side(group, values, values, patients, trials)
    variance = _spread(values[1:]) ** 2
    cases = float(patients)
    if variance > SAME**2:
        cases = float(np.clip(values[0] * (1 - values[0]) / variance, 1.0, patients))
    odds = np.log((values * cases + 0.5) / ((1 - values) * cases + 0.5))
    return Side(group, values, odds, cases, trials)


def sides(family: Family, patients: Sequence[int], replicates: int, *, share: bool) -> list[Side]:
    """Prepare the values of the groups of a family, given the number of patients of each."""
    return [
        side(name, values[: 1 + replicates], count, share=share, trials=int(trials))
        for name, values, count, trials in zip(
            family.names, family.values, patients, family.trials, strict=True
        )
    ]


def constant(group: str, like: Side, value: float) -> Side:
    """Return a fixed share without error, to compare ``like`` with."""
    whole = np.full(len(like.values), value)
    return Side(group, whole, np.log(whole / (1 - whole)), np.inf)


@dataclass(frozen=True, eq=False)
class Contrast:
    """The difference of two values, the first less the second."""

    first: Side
    second: Side

    @property
    def value(self) -> float:
        """The difference, on the scale of the report."""
        return float(self.first.values[0] - self.second.values[0])

    @property
    def error(self) -> float:
        """The standard error of the difference, on the scale of the report."""
        return _spread(self.first.values[1:] - self.second.values[1:])

    @property
    def exact(self) -> bool:
        """Whether one value never changes, so that its error needs an exact interval."""
        return self.first.trials + self.second.trials > 0

    def scaled(self) -> Floats:
        """Return the difference and its resamples ``(1 + B,)`` on the scale of the test."""
        return self.first.scaled - self.second.scaled

    @cached_property
    def scaled_error(self) -> float:
        """The standard error on the scale of the test; 0 where too few resamples have a value."""
        drawn = self.scaled()[1:]
        defined = np.count_nonzero(~np.isnan(drawn))
        return _spread(drawn) if defined >= max(2, FEWEST * len(drawn)) else 0.0

    @property
    def testable(self) -> bool:
        """Whether the difference is defined and its error can be estimated."""
        usable = self.first.usable or self.second.usable
        return usable and not np.isnan(self.value) and (self.exact or self.scaled_error > SAME)

    @property
    def degrees(self) -> float:
        """The degrees of freedom of the error (Satterthwaite 1946)."""
        parts = [(one.variance, max(one.cases - 1, 1)) for one in (self.first, self.second)]
        total = sum(variance for variance, _ in parts)
        return float(total**2 / sum(variance**2 / cases for variance, cases in parts))


@dataclass(frozen=True, eq=False)
class Together:
    """Results of testing m contrasts together.

    Attributes
    ----------
    p, p_adjusted
        ``(m,)``, each p-value alone, and adjusted over all; NaN where a contrast is not testable.
    critical
        The number of standard errors that a difference must reach to be claimed.
    """

    p: Floats
    p_adjusted: Floats
    critical: float


def adjust_together(contrasts: Sequence[Contrast], level: float) -> Together:
    """Adjust p-values over contrasts of the same resamples (see `step_down`).

    Parameters
    ----------
    contrasts
        The m differences to test.
    level
        The largest allowed chance of claiming any difference where there is none.

    Notes
    -----
    Each standardised difference is read as a t with the degrees of freedom of its cases, and
    converted to the normal quantile of the same tail. Contrasts with a value that no resample
    changes have p-values from exact intervals, adjusted by Holm. The two kinds share the level in
    proportion to their numbers.
    """
    p, adjusted = np.full(len(contrasts), np.nan), np.full(len(contrasts), np.nan)
    tested = [place for place, one in enumerate(contrasts) if one.testable]
    exact = [place for place in tested if contrasts[place].exact]
    drawn = [place for place in tested if not contrasts[place].exact]
    critical = 0.0
    if drawn:
        result = _by_draws([contrasts[place] for place in drawn])
        p[drawn], adjusted[drawn] = result.p, result.p_adjusted * len(tested) / len(drawn)
        critical = float(np.quantile(result.largest, 1 - level * len(drawn) / len(tested)))
    if exact:
        p[exact] = [_exact_p(contrasts[place]) for place in exact]
        adjusted[exact] = holm(p[exact]) * len(tested) / len(exact)
        critical = max(critical, float(norm.isf(level / (2 * len(tested)))))
    return Together(p, np.minimum(adjusted, 1.0), critical)


def _by_draws(contrasts: Sequence[Contrast]) -> Adjusted:
    """Test contrasts by their resamples."""
    errors = np.array([one.scaled_error for one in contrasts])
    differences = np.array([one.first.scaled[0] - one.second.scaled[0] for one in contrasts])
    degrees = np.array([one.degrees for one in contrasts])
    statistics = np.abs(differences) / errors
    observed = np.asarray(norm.isf(t.sf(statistics, degrees)), dtype=np.float64)

    def drawn(place: int) -> Floats:
        values = contrasts[place].scaled()
        sizes: Floats = np.abs(values[1:] - values[0]) / errors[place]
        return sizes

    return step_down(observed, drawn, len(contrasts[0].first.values) - 1)


def _exact_p(contrast: Contrast) -> float:
    """Return the two-sided p-value that inverts the exact interval of a difference.

    The interval is that of `difference_interval`: its half-width is the hypotenuse over the
    half-widths of both sides. The p-value is twice the tail at which it just reaches 0.
    """

    def reach(side: Side, tail: float) -> float:
        if side.trials:
            return float(1 - tail ** (1 / side.trials))
        return float(norm.isf(tail)) * side.error

    low, high = 0.0, 0.5
    for _ in range(HALVINGS):
        tail = (low + high) / 2
        half_width = math.hypot(reach(contrast.first, tail), reach(contrast.second, tail))
        covers = half_width >= abs(contrast.value)
        low, high = (tail, high) if covers else (low, tail)
    return min(1.0, 2 * high)


def _spread(drawn: Floats) -> float:
    """Return the standard deviation of the defined values, 0 for fewer than two of them."""
    defined = drawn[~np.isnan(drawn)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
