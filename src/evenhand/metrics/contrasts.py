"""Differences of two values, and the test of all differences of a page together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import norm, t

from evenhand.metrics.families import SAME, Family
from evenhand.metrics.permutation import holm
from evenhand.metrics.registry import Floats
from evenhand.metrics.stepdown import Adjusted, blocks, step_down

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


@dataclass(frozen=True, eq=False, slots=True)  # the pairs of 5,000 groups are millions
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


@dataclass(frozen=True, eq=False)
class Together:
    """Results of testing m contrasts together.

    Attributes
    ----------
    p, p_adjusted
        ``(m,)``, each p-value alone, and corrected over all; NaN where a contrast is not testable.
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
    changes have p-values from exact intervals, corrected by Holm. The two kinds share the level in
    proportion to their numbers.
    """
    p, adjusted = np.full(len(contrasts), np.nan), np.full(len(contrasts), np.nan)
    if not contrasts:
        return Together(p, adjusted, 0.0)
    stack = _Stack(contrasts)
    tested = stack.testable
    exact, drawn = np.flatnonzero(tested & stack.exact), np.flatnonzero(tested & ~stack.exact)
    count, critical = len(exact) + len(drawn), 0.0
    if len(drawn):
        found = _by_draws(stack, drawn)
        p[drawn], adjusted[drawn] = found.p, found.p_adjusted * count / len(drawn)
        critical = float(np.nanquantile(found.largest, 1 - level * len(drawn) / count))
    if len(exact):
        p[exact] = _exact_p(stack, exact)
        adjusted[exact] = holm(p[exact]) * count / len(exact)
        critical = max(critical, float(norm.isf(level / (2 * count))))
    return Together(p, np.minimum(adjusted, 1.0), critical)


class _Stack:
    """Contrasts as arrays over the sides that they share: the pairs of many groups are many.

    Attributes
    ----------
    first, second
        ``(m,)``, the sides of each contrast as rows of ``scaled``.
    scaled
        ``(S, 1 + B)``, the sides on the scale of the test.
    values, variances, cases, trials, errors
        ``(S,)`` of the sides.
    value, exact, error, testable
        ``(m,)`` of the contrasts: the difference as it is reported; whether a side never changes;
        the error on the scale of the test, 0 where it is exact or too few resamples have a value;
        and whether there is a difference, and something to tell its error from.
    """

    def __init__(self, contrasts: Sequence[Contrast]) -> None:
        sides = {id(of): of for one in contrasts for of in (one.first, one.second)}
        row = {key: at for at, key in enumerate(sides)}
        self.first = np.array([row[id(one.first)] for one in contrasts])
        self.second = np.array([row[id(one.second)] for one in contrasts])
        self.scaled = np.stack([of.scaled for of in sides.values()])
        self.values = np.array([of.values[0] for of in sides.values()])
        self.variances = np.array([of.variance for of in sides.values()])
        self.cases = np.array([of.cases for of in sides.values()])
        self.trials = np.array([of.trials for of in sides.values()])
        self.errors = np.array([of.error for of in sides.values()])
        self.value = self.values[self.first] - self.values[self.second]
        self.exact = self.trials[self.first] + self.trials[self.second] > 0
        known = np.array([of.usable for of in sides.values()])
        there = (known[self.first] | known[self.second]) & ~np.isnan(self.value)
        self.error = self._error(np.flatnonzero(there & ~self.exact))
        self.testable = there & (self.exact | (self.error > SAME))

    def differences(self, places: NDArray[np.intp]) -> Floats:
        """Return some contrasts ``(k, 1 + B)`` on the scale of the test."""
        difference: Floats = self.scaled[self.first[places]] - self.scaled[self.second[places]]
        return difference

    def degrees(self, places: NDArray[np.intp]) -> Floats:
        """Return the degrees of freedom of the errors ``(k,)`` (Satterthwaite 1946)."""
        of_side = self.variances**2 / np.maximum(self.cases - 1, 1)
        first, second = self.first[places], self.second[places]
        total = self.variances[first] + self.variances[second]
        degrees: Floats = total**2 / (of_side[first] + of_side[second])
        return degrees

    def _error(self, places: NDArray[np.intp]) -> Floats:
        error = np.zeros(len(self.first))
        replicates = self.scaled.shape[1] - 1
        for block in blocks(places, replicates):
            drawn = self.differences(block)[:, 1:]
            count = np.count_nonzero(~np.isnan(drawn), axis=1)
            enough = count >= max(2, FEWEST * replicates)
            error[block[enough]] = np.nanstd(drawn[enough], axis=1, ddof=1)
        return error


def _by_draws(stack: _Stack, places: NDArray[np.intp]) -> Adjusted:
    """Test contrasts by their resamples."""
    errors = stack.error[places]
    at = stack.scaled[stack.first[places], 0] - stack.scaled[stack.second[places], 0]
    observed = norm.isf(t.sf(np.abs(at) / errors, stack.degrees(places)))

    def drawn(some: NDArray[np.intp]) -> Floats:
        values = stack.differences(places[some])
        sizes: Floats = np.abs(values[:, 1:] - values[:, :1]) / errors[some, None]
        return sizes

    return step_down(np.asarray(observed, dtype=np.float64), drawn, stack.scaled.shape[1] - 1)


def _exact_p(stack: _Stack, places: NDArray[np.intp]) -> Floats:
    """Return twice the tails ``(k,)`` at which the exact intervals of differences begin at 0.

    The interval is that of `difference_interval`: its half-width is the hypotenuse over the
    half-widths of both sides. The p-value is twice the tail at which it just reaches 0.
    """

    def reach(of: NDArray[np.intp], tail: Floats) -> Floats:
        trials = stack.trials[of]
        by_trials = 1 - tail ** (1 / np.maximum(trials, 1))
        reached: Floats = np.where(trials > 0, by_trials, -ndtri(tail) * stack.errors[of])
        return reached

    first, second = stack.first[places], stack.second[places]
    size = np.abs(stack.value[places])
    low, high = np.zeros(len(places)), np.full(len(places), 0.5)
    for _ in range(HALVINGS):
        tail = (low + high) / 2
        covers = np.hypot(reach(first, tail), reach(second, tail)) >= size
        low, high = np.where(covers, tail, low), np.where(covers, high, tail)
    p: Floats = np.minimum(1.0, 2 * high)
    return p


def _spread(drawn: Floats) -> float:
    """Return the standard deviation of the defined values, 0 for fewer than two of them."""
    defined = drawn[~np.isnan(drawn)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
