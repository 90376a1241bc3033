"""Differences of two values, and one test of all differences of a page together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from evenhand.metrics.families import SAME, MetricFamily
from evenhand.metrics.permutation import AdjustedP, blocks, holm, step_down
from evenhand.metrics.registry import Floats

MIN_DEFINED = 0.5
"""Share of the resamples in which a difference must be defined to be tested."""

BISECTIONS = 60
"""Steps of the bisection that finds the p-value of an exact interval."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two values of a difference, prepared for tests.

    Attributes
    ----------
    group
        The group that has the value.
    values
        ``(1 + B,)``, the value in the data, then in each of B resamples.
    scaled
        ``(1 + B,)``, the values on the scale of the test.
    cases
        Effective sample size: the number of independent cases that gives the same variance.
    trials
        The number of patients behind a share of 0 or 1 that no resample changes; otherwise 0.
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
    """Prepare the values ``(1 + B,)`` of a group with so many patients for tests.

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
    """Prepare the values of each group of a family, with its number of patients, for tests."""
    return [
        side(name, values[: 1 + replicates], count, share=share, trials=int(trials))
        for name, values, count, trials in zip(
            family.names, family.values, patients, family.trials, strict=True
        )
    ]


def constant_side(group: str, other: Side, value: float) -> Side:
    """Return a fixed share without error, with as many resamples as the other side."""
    values = np.full(len(other.values), value)
    return Side(group, values, np.log(values / (1 - values)), np.inf)


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Differences of pairs of values: the first less the second.

    Pairs are stored as indices and not as objects, as thousands of groups have millions of pairs.

    Attributes
    ----------
    sides
        The S values.
    first, second
        ``(m,)``, the indices in ``sides`` of the two values of each difference.
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

    def error(self, index: int) -> float:
        """Return the standard error of one difference, on the scale of the report."""
        first, other = self.sides[self.first[index]], self.sides[self.second[index]]
        return _spread(first.values[1:] - other.values[1:])

    def is_exact(self, index: int) -> bool:
        """Return whether one of the two values is the same in every resample."""
        first, other = self.sides[self.first[index]], self.sides[self.second[index]]
        return bool(first.trials or other.trials)


def contrast(first: Side, second: Side) -> Contrasts:
    """Return the difference of two values."""
    indices = np.array([[0], [1]], dtype=np.int32)
    return Contrasts((first, second), *indices)


def all_pairs(sides: Sequence[Side]) -> Contrasts:
    """Return the differences of all pairs of values, in the order of `pair_index`."""
    first, second = np.triu_indices(len(sides), 1)
    return Contrasts(tuple(sides), first.astype(np.int32), second.astype(np.int32))


def pair_index(first: int, other: int, sides: int) -> int:
    """Return the index of a pair of values among all pairs of so many ``sides``."""
    low, high = sorted((first, other))
    return low * sides - low * (low + 1) // 2 + high - low - 1


@dataclass(frozen=True, eq=False)
class JointTest:
    """The results of testing m contrasts together.

    Attributes
    ----------
    p, p_adjusted
        ``(m,)``, the p-value of each contrast alone, and corrected over all contrasts; NaN where a
        contrast is not testable.
    critical
        The number of standard errors that a difference must reach to be claimed.
    """

    p: Floats
    p_adjusted: Floats
    critical: float


def adjust_together(batches: Sequence[Contrasts], level: float) -> JointTest:
    """Test contrasts of the same resamples together, with p-values corrected over all of them.

    Parameters
    ----------
    batches
        The m differences to test, batch by batch.
    level
        The largest allowed chance of claiming any difference where there is none, in (0, 1).

    Notes
    -----
    Each standardised difference is a t statistic with the degrees of freedom of its cases; it is
    converted to the normal quantile of the same tail, and corrected by `step_down`. Contrasts with
    a value that no resample changes have p-values from exact intervals, corrected by Holm. The two
    kinds share the level in proportion to their numbers.
    """
    total = sum(map(len, batches))
    p, adjusted = np.full(total, np.nan), np.full(total, np.nan)
    if not total:
        return JointTest(p, adjusted, 0.0)
    stack = _Stack(batches)
    tested = stack.testable
    exact, drawn = np.flatnonzero(tested & stack.exact), np.flatnonzero(tested & ~stack.exact)
    count, critical = len(exact) + len(drawn), 0.0
    if len(drawn):
        results = _test_by_resamples(stack, drawn)
        p[drawn], adjusted[drawn] = results.p, results.p_adjusted * count / len(drawn)
        critical = float(np.nanquantile(results.largest, 1 - level * len(drawn) / count))
    if len(exact):
        p[exact] = _exact_p(stack, exact)
        adjusted[exact] = holm(p[exact]) * count / len(exact)
        critical = max(critical, -float(ndtri(level / (2 * count))))
    return JointTest(p, np.minimum(adjusted, 1.0), critical)


class _Stack:
    """Arrays of the S sides of all batches, and of the m contrasts, which share the sides.

    Attributes
    ----------
    first, second
        ``(m,)``, the sides of each contrast as rows of ``scaled``.
    scaled
        ``(S, 1 + B)``, the sides on the scale of the test.
    values, variances, cases, trials, errors
        ``(S,)``, the attributes of the sides.
    value, exact, error, testable
        ``(m,)``, of each contrast: the difference on the scale of the report; whether a side is
        the same in every resample; the error on the scale of the test (0 where a side never
        changes, or where too few resamples are defined); whether it can be tested.
    """

    def __init__(self, batches: Sequence[Contrasts]) -> None:
        sides = [side for batch in batches for side in batch.sides]
        starts = np.cumsum([0, *(len(batch.sides) for batch in batches)]).astype(np.int32)
        with_starts = list(zip(batches, starts, strict=False))
        self.first = np.concatenate([batch.first + start for batch, start in with_starts])
        self.second = np.concatenate([batch.second + start for batch, start in with_starts])
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
        defined = (usable[self.first] | usable[self.second]) & ~np.isnan(self.value)
        self.error = self._error(np.flatnonzero(defined & ~self.exact))
        self.testable = defined & (self.exact | (self.error > SAME))

    def differences(self, indices: NDArray[np.intp]) -> Floats:
        """Return some contrasts ``(k, 1 + B)`` on the scale of the test."""
        difference: Floats = self.scaled[self.first[indices]] - self.scaled[self.second[indices]]
        return difference

    def degrees(self, indices: NDArray[np.intp]) -> Floats:
        """Return the degrees of freedom ``(k,)`` of some errors (Satterthwaite 1946)."""
        weights = self.variances**2 / np.maximum(self.cases - 1, 1)
        first, second = self.first[indices], self.second[indices]
        total = self.variances[first] + self.variances[second]
        degrees: Floats = total**2 / (weights[first] + weights[second])
        return degrees

    def _error(self, indices: NDArray[np.intp]) -> Floats:
        """Return the errors ``(m,)`` of the chosen contrasts on the scale of the test, else 0."""
        error = np.zeros(len(self.first))
        replicates = self.scaled.shape[1] - 1
        defined = not np.isnan(self.scaled).any()
        for block in blocks(indices, replicates):
            drawn = self.differences(block)[:, 1:]
            if defined and replicates > 1:
                error[block] = drawn.std(axis=1, ddof=1)
                continue
            count = np.count_nonzero(~np.isnan(drawn), axis=1)
            enough = count >= max(2, MIN_DEFINED * replicates)
            error[block[enough]] = np.nanstd(drawn[enough], axis=1, ddof=1)
        return error


def _test_by_resamples(stack: _Stack, indices: NDArray[np.intp]) -> AdjustedP:
    """Test some contrasts by their resamples."""
    errors = stack.error[indices]
    difference = stack.scaled[stack.first[indices], 0] - stack.scaled[stack.second[indices], 0]
    observed = -ndtri(stdtr(stack.degrees(indices), -np.abs(difference) / errors))

    def null_statistics(chosen: NDArray[np.intp]) -> Floats:
        values = stack.differences(indices[chosen])
        statistics: Floats = values[:, 1:] - values[:, :1]
        np.abs(statistics, out=statistics)
        statistics /= errors[chosen, None]
        return statistics

    draws = stack.scaled.shape[1] - 1
    return step_down(np.asarray(observed, dtype=np.float64), null_statistics, draws)


def _exact_p(stack: _Stack, indices: NDArray[np.intp]) -> Floats:
    """Return the p-values ``(k,)`` of contrasts from their exact intervals.

    The interval is that of `difference_interval`: its half-width is the hypotenuse of the
    half-widths of both sides. The p-value is twice the tail at which the interval just reaches 0.
    Contrasts of equal sides have equal p-values, and are computed once.
    """
    _, side_kind = np.unique(
        np.stack([stack.values, stack.trials, stack.errors]), axis=1, return_inverse=True
    )
    kinds = side_kind[stack.first[indices]] * len(side_kind) + side_kind[stack.second[indices]]
    _, distinct, inverse = np.unique(kinds, return_index=True, return_inverse=True)
    return _bisect_p(stack, indices[distinct])[inverse]


def _bisect_p(stack: _Stack, indices: NDArray[np.intp]) -> Floats:
    """Return the p-values ``(k,)`` of some contrasts by bisection over the tail."""

    def half_width(sides: NDArray[np.intp], tail: Floats) -> Floats:
        trials = stack.trials[sides]
        by_trials = 1 - tail ** (1 / np.maximum(trials, 1))
        width: Floats = np.where(trials > 0, by_trials, -ndtri(tail) * stack.errors[sides])
        return width

    first, second = stack.first[indices], stack.second[indices]
    size = np.abs(stack.value[indices])
    low, high = np.zeros(len(indices)), np.full(len(indices), 0.5)
    for _ in range(BISECTIONS):
        tail = (low + high) / 2
        covers = np.hypot(half_width(first, tail), half_width(second, tail)) >= size
        low, high = np.where(covers, tail, low), np.where(covers, high, tail)
    p: Floats = np.minimum(1.0, 2 * high)
    return p


def _spread(drawn: Floats) -> float:
    """Return the standard deviation of the defined values, 0 for fewer than two of them."""
    defined = drawn[~np.isnan(drawn)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
