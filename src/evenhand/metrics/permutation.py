"""Permutation tests of "no difference" between groups of patients; correction of many tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import count_text
from evenhand.metrics.estimate import common_classes, why_undefined
from evenhand.metrics.influence import Moments, moments, why_no_influence
from evenhand.metrics.registry import Floats, Metric
from evenhand.metrics.scored import Scored
from evenhand.metrics.stream import CELLS

SMALLEST = 1e-12
"""Least variance of a value, as the variance in a group without errors would be 0."""


@dataclass(frozen=True)
class Test:
    """The outcome of a test: its p-value, or why there is none.

    Attributes
    ----------
    p
        The share of the permutations whose statistic is at least the observed one; the data count
        as one of the permutations. None if there is no test.
    undefined
        The number of permutations in which the value of some group is undefined. They are left
        out of the share.
    reason
        Why there is no p-value, or None.
    """

    __test__ = False  # keeps pytest from collecting it

    p: float | None
    undefined: int
    reason: str | None = None


def permutation_test(
    groups: Mapping[str, Scored], metric: Metric, permutations: int, rng: np.random.Generator
) -> Test:
    """Test whether a metric is the same in all groups.

    Parameters
    ----------
    groups
        The samples of each compared group, by name; all taken from the same `Scored`.
    metric
        The metric to compare.
    permutations
        How often patients are assigned to the groups at random; groups keep their sizes.
    rng
        Draws the permutations.

    Returns
    -------
    Test
        It has no p-value if the test does not apply: a patient is in two groups, the value of a
        group is undefined, or the influences of patients on the metric are unknown.

    Notes
    -----
    The statistic is studentised: the sum over groups of (value − pooled value)² / variance. In
    large samples the test then keeps its level even if groups differ in other things than the
    metric, such as prevalence or size (Chung & Romano, Ann. Stat. 2013; for several groups the
    Wald-type statistic). All samples of a patient stay together, as they are correlated.
    """
    reason = _why_no_test(groups, metric)
    if reason:
        return Test(None, 0, reason)
    rows, member = _pooled(list(groups.values()))
    metric_moments = moments(metric, rows, common_classes(list(groups.values())))
    observed = _statistics(metric_moments, member[None], len(groups))[0]
    if np.isnan(observed):
        return Test(None, 0, "no test: undefined in the data")
    statistics = []
    size = max(1, CELLS // len(rows))
    for start in range(0, permutations, size):
        permuted = rng.permuted(np.tile(member, (min(size, permutations - start), 1)), axis=1)
        statistics.append(_statistics(metric_moments, permuted, len(groups)))
    null = np.concatenate(statistics)
    defined = null[~np.isnan(null)]
    as_large = np.count_nonzero(defined >= observed * (1 - 1e-12))
    return Test((1 + as_large) / (1 + len(defined)), len(null) - len(defined))


def holm(p: ArrayLike) -> Floats:
    """Return p-values ``(m,)`` corrected by Holm's method (Scand. J. Stat. 1979); NaN stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    remaining = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * remaining))
    return adjusted


def _statistics(metric_moments: Moments, member: NDArray[np.intp], groups: int) -> Floats:
    """Return the statistics ``(b,)`` of assignments of patients to groups ``(b, P)``."""
    parts = [metric_moments((member == group).astype(np.uint8)) for group in range(groups)]
    value = np.stack([part for part, _ in parts])
    precision = 1 / np.maximum(np.stack([variance for _, variance in parts]), SMALLEST)
    pooled = (precision * value).sum(axis=0) / precision.sum(axis=0)
    statistic: Floats = (precision * (value - pooled) ** 2).sum(axis=0)
    return statistic


def _pooled(groups: Sequence[Scored]) -> tuple[Scored, NDArray[np.intp]]:
    """Return the samples of all groups together, and the group ``(P,)`` of each patient."""
    members = np.concatenate([rows.members for rows in groups])
    order = np.argsort(members)
    number_of = np.empty(len(members), dtype=np.intp)
    number_of[order] = np.arange(len(members))
    ends = np.cumsum([len(rows.members) for rows in groups])
    patients = [
        number_of[end - len(rows.members) + rows.patients]
        for end, rows in zip(ends, groups, strict=True)
    ]
    cuts = [rows.thresholds for rows in groups if rows.thresholds is not None]
    pooled = Scored(
        labels=np.concatenate([rows.labels for rows in groups]),
        scores=np.concatenate([rows.scores for rows in groups]),
        decisions=np.concatenate([rows.decisions for rows in groups]),
        thresholds=np.concatenate(cuts) if cuts else None,
        patients=np.concatenate(patients),
        members=members[order],
        classes=groups[0].classes,
    )
    group = np.repeat(np.arange(len(groups)), [len(rows.members) for rows in groups])
    return pooled, group[order]


def _why_no_test(groups: Mapping[str, Scored], metric: Metric) -> str | None:
    """Return why groups cannot be tested, in words, or None."""
    if len(groups) < 2:
        return f"no test: {count_text(len(groups), 'group')} to compare"
    unknown = why_no_influence(metric)
    if unknown:
        return f"no test: {unknown}"
    classes = common_classes(list(groups.values()))
    undefined = [level for level, rows in groups.items() if why_undefined(rows, metric, classes)]
    if undefined:
        return f"no test: undefined in {', '.join(map(repr, undefined))}"
    members = np.concatenate([rows.members for rows in groups.values()])
    several = len(members) - len(np.unique(members))
    if several:
        return f"no test: {count_text(several, 'patient')} in more than one group"
    return None


BLOCK = 2**20
"""Number of statistics (tests × draws) in one block."""


@dataclass(frozen=True, eq=False)
class AdjustedP:
    """The results of m tests.

    Attributes
    ----------
    p
        ``(m,)``, the p-value of each test alone.
    p_adjusted
        ``(m,)``, the p-values corrected over all tests: the chance of a statistic at least this
        large if this difference and all differences with smaller statistics were 0.
    largest
        ``(B,)``, the largest statistic of each draw; NaN where none is defined.
    """

    p: Floats
    p_adjusted: Floats
    largest: Floats


def step_down(
    observed: Floats, drawn: Callable[[NDArray[np.intp]], Floats], draws: int
) -> AdjustedP:
    """Return p-values corrected over all tests by step-down max-t.

    Parameters
    ----------
    observed
        The statistics ``(m,)``, at least 0 and on the same scale; larger is stronger evidence.
    drawn
        Function of the positions ``(k,)`` of some tests; returns their statistics ``(k, B)`` under
        "no difference", from the same B draws for all tests; NaN where undefined. The array that
        it returns is overwritten.
    draws
        B, the number of draws.

    Notes
    -----
    Romano & Wolf, Econometrica 2005: the largest statistic is compared with the largest of all
    tests in each draw, the second largest with the largest of the remaining tests, and so on. As
    the tests share the draws, the correction is weaker for correlated tests than Holm's.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> null = np.abs(rng.normal(size=(2, 999)))
    >>> step_down(np.array([0.5, 4.0]), null.__getitem__, 999).p_adjusted.round(3).tolist()
    [0.612, 0.001]
    """
    order = np.argsort(observed, kind="stable")
    largest = np.full(draws, np.nan)
    p, adjusted = np.empty(len(observed)), np.empty(len(observed))
    for block in blocks(order, draws):
        statistics = drawn(block)
        p[block] = _share(statistics, observed[block])
        np.fmax(statistics[0], largest, out=statistics[0])  # fmax ignores NaN
        np.fmax.accumulate(statistics, axis=0, out=statistics)
        adjusted[block] = np.maximum(p[block], _share(statistics, observed[block]))
        largest = statistics[-1].copy()
    largest_first = order[::-1]
    adjusted[largest_first] = np.maximum.accumulate(adjusted[largest_first])
    return AdjustedP(p, adjusted, largest)


def blocks(indices: NDArray[np.intp], draws: int) -> Iterator[NDArray[np.intp]]:
    """Yield blocks of positions; a block with all its draws has about `BLOCK` numbers."""
    size = max(1, BLOCK // max(draws, 1))
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _share(statistics: Floats, observed: Floats) -> Floats:
    """Return the shares ``(k,)`` of draws with at least the observed statistic.

    The observed statistic counts as one of the draws.
    """
    defined: NDArray[np.intp] | int = statistics.shape[1]
    if np.isnan(statistics.min()):
        defined = np.count_nonzero(~np.isnan(statistics), axis=1)
    share: Floats = (1 + np.count_nonzero(statistics >= observed[:, None], axis=1)) / (1 + defined)
    return share
