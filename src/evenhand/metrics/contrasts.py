"""Differences of two values, and the test of all differences of a page together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from evenhand.metrics.families import SAME, MetricFamily
from evenhand.metrics.permutation import holm
from evenhand.metrics.registry import Floats
from evenhand.metrics.stepdown import AdjustedP, blocks, step_down

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


def sides(
    family: MetricFamily, patients: Sequence[int], replicates: int, *, share: bool
) -> list[Side]:
    """Prepare the values of the groups of a family, given the number of patients of each."""
    return [
        side(name, values[: 1 + replicates], count, share=share, trials=int(trials))
        for name, values, count, trials in zip(
            family.names, family.values, patients, family.trials, strict=True
        )
    ]


def constant_side(group: str, like: Side, value: float) -> Side:
    """Return a fixed share without error, to compare ``like`` with."""
    whole = np.full(len(like.values), value)
    return Side(group, whole, np.log(whole / (1 - whole)), np.inf)


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Differences of pairs of values, each the first less the second.

    The pairs of thousands of groups are millions, so that they are places and no objects.

    Attributes
    ----------
    sides
        The S values.
    first, second
        ``(m,)``, the places of the two values of each difference in ``sides``.
    """

    sides: tuple[Side, ...]
    first: NDArray[np.int32]
    second: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.first)

    def values(self) -> Floats:
        """Return the differences ``(m,)`` on the scale of the report."""
        point = np.array([side.values[0] for side in self.sides])
        difference: Floats = point[self.first] - point[self.second]
        return difference

    def error(self, place: int) -> float:
        """Return the standard error of one difference, on the scale of the report."""
        first, other = self.sides[self.first[place]], self.sides[self.second[place]]
        return _spread(first.values[1:] - other.values[1:])

    def exact(self, place: int) -> bool:
        """Return whether one of the two values never changes, so that only bounds are known."""
        first, other = self.sides[self.first[place]], self.sides[self.second[place]]
        return bool(first.trials or other.trials)


def contrast(first: Side, second: Side) -> Contrasts:
    """Return the difference of two values."""
    places = np.array([[0], [1]], dtype=np.int32)
    return Contrasts((first, second), *places)


def all_pairs(sides: Sequence[Side]) -> Contrasts:
    """Return the differences of any two values, each pair once (see `pair_place`)."""
    first, second = np.triu_indices(len(sides), 1)
    return Contrasts(tuple(sides), first.astype(np.int32), second.astype(np.int32))


def pair_place(first: int, other: int, sides: int) -> int:
    """Return the place of a pair of ``sides`` values among all pairs."""
    low, high = sorted((first, other))
    return low * sides - low * (low + 1) // 2 + high - low - 1


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


def adjust_together(batches: Sequence[Contrasts], level: float) -> Together:
    """Adjust p-values over contrasts of the same resamples (see `step_down`).

    Parameters
    ----------
    batches
        The m differences to test, batch by batch.
    level
        The largest allowed chance of claiming any difference where there is none.

    Notes
    -----
    Each standardised difference is read as a t with the degrees of freedom of its cases, and
    converted to the normal quantile of the same tail. Contrasts with a value that no resample
    changes have p-values from exact intervals, corrected by Holm. The two kinds share the level in
    proportion to their numbers.
    """
    total = sum(map(len, batches))
    p, adjusted = np.full(total, np.nan), np.full(total, np.nan)
    if not total:
        return Together(p, adjusted, 0.0)
    stack = _Stack(batches)
    tested = stack.testable
    exact, drawn = np.flatnonzero(tested & stack.exact), np.flatnonzero(tested & ~stack.exact)
    count, critical = len(exact) + len(drawn), 0.0
    if len(drawn):
        by_draws = _by_draws(stack, drawn)
        p[drawn], adjusted[drawn] = by_draws.p, by_draws.p_adjusted * count / len(drawn)
        critical = float(np.nanquantile(by_draws.largest, 1 - level * len(drawn) / count))
    if len(exact):
        p[exact] = _exact_p(stack, exact)
        adjusted[exact] = holm(p[exact]) * count / len(exact)
        critical = max(critical, -float(ndtri(level / (2 * count))))
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

    def __init__(self, batches: Sequence[Contrasts]) -> None:
        sides = [side for batch in batches for side in batch.sides]
        starts = np.cumsum([0, *(len(batch.sides) for batch in batches)]).astype(np.int32)
        batches_at = list(zip(batches, starts, strict=False))
        self.first = np.concatenate([batch.first + start for batch, start in batches_at])
        self.second = np.concatenate([batch.second + start for batch, start in batches_at])
        self.scaled = np.stack([side.scaled for side in sides])
        self.values = np.array([side.values[0] for side in sides])
        self.variances = np.array([side.variance for side in sides])
        self.cases = np.array([side.cases for side in sides])
        self.trials = np.array([side.trials for side in sides])
        self.errors = np.array([side.error for side in sides])
        self.value = self.values[self.first] - self.values[self.second]
        fixed = self.trials > 0
        self.exact = fixed[self.first] | fixed[self.second]
        usable = np.array([side.usable for side in sides])
        there = (usable[self.first] | usable[self.second]) & ~np.isnan(self.value)
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
        defined = not np.isnan(self.scaled).any()
        for block in blocks(places, replicates):
            drawn = self.differences(block)[:, 1:]
            if defined and replicates > 1:
                error[block] = drawn.std(axis=1, ddof=1)
                continue
            count = np.count_nonzero(~np.isnan(drawn), axis=1)
            enough = count >= max(2, FEWEST * replicates)
            error[block[enough]] = np.nanstd(drawn[enough], axis=1, ddof=1)
        return error


def _by_draws(stack: _Stack, places: NDArray[np.intp]) -> AdjustedP:
    """Test contrasts by their resamples."""
    errors = stack.error[places]
    difference = stack.scaled[stack.first[places], 0] - stack.scaled[stack.second[places], 0]
    observed = -ndtri(stdtr(stack.degrees(places), -np.abs(difference) / errors))

    def drawn(some: NDArray[np.intp]) -> Floats:
        values = stack.differences(places[some])
        sizes: Floats = values[:, 1:] - values[:, :1]
        np.abs(sizes, out=sizes)
        sizes /= errors[some, None]
        return sizes

    return step_down(np.asarray(observed, dtype=np.float64), drawn, stack.scaled.shape[1] - 1)


def _exact_p(stack: _Stack, places: NDArray[np.intp]) -> Floats:
    """Return twice the tails ``(k,)`` at which the exact intervals of differences begin at 0.

    The interval is that of `difference_interval`: its half-width is the hypotenuse over the
    half-widths of both sides. The p-value is twice the tail at which it just reaches 0.
    """
    _, kind = np.unique(
        np.stack([stack.values, stack.trials, stack.errors]), axis=1, return_inverse=True
    )
    kinds = kind[stack.first[places]] * len(kind) + kind[stack.second[places]]
    _, alike, back = np.unique(kinds, return_index=True, return_inverse=True)
    return _tails(stack, places[alike])[back]


def _tails(stack: _Stack, places: NDArray[np.intp]) -> Floats:
    """Return `_exact_p` of contrasts, one of each kind: those of equal sides are alike."""

    def reach(sides: NDArray[np.intp], tail: Floats) -> Floats:
        trials = stack.trials[sides]
        by_trials = 1 - tail ** (1 / np.maximum(trials, 1))
        reached: Floats = np.where(trials > 0, by_trials, -ndtri(tail) * stack.errors[sides])
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
