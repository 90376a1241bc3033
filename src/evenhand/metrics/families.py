"""The values of a metric in several groups, with their standard errors and intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, stdtrit

from evenhand.metrics.estimate import patients_behind
from evenhand.metrics.forms import Logistic, bin_pairs
from evenhand.metrics.registry import Floats, Metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.scored import Scored

SAME = 1e-12
"""Relative difference up to which two values count as equal: rounding alone can cause it."""

MANY = np.iinfo(np.int32).max
"""Number of patients where it is unknown; Student's t is then the normal distribution."""

LONGEST = 2.0
"""Largest ratio of a side of the skewed interval to a side of Student's."""

PAIRS = 2**17
"""Number of pairs of groups in one block."""

ONE_PAIR = np.triu_indices(2, 1)
"""The two indices of the only pair of two groups."""

ErrorScale = Literal["share", "mean", "coefficient", "square", "plain"]
"""How an interval is computed from a standard error (see `MetricFamily.margins`)."""


@dataclass(frozen=True, eq=False)
class MetricFamily:
    """The values of one metric in several groups, in the data and in each resample.

    Attributes
    ----------
    names
        The names of the G groups.
    values
        ``(G, 1 + B + J)`` as in `Resamples`.
    replicates
        B, the number of resamples.
    fixed
        ``(G,)``, whether the value is the same in every resample. The resamples then say nothing
        about its error.
    trials
        ``(G,)``, the number of patients behind a fixed share of 0 or 1, whose error has a binomial
        bound; 0 for other values.
    patients
        ``(G,)``, the number of patients behind each value; of the rarer kind if it needs two kinds.
    scale
        How an interval is computed from a standard error.
    paired
        Whether the values belong to two models on the same samples.
    """

    names: tuple[str, ...]
    values: Floats
    replicates: int
    fixed: NDArray[np.bool_]
    trials: NDArray[np.intp]
    patients: NDArray[np.intp]
    scale: ErrorScale
    paired: bool = False

    @property
    def resampled(self) -> Floats:
        """The values ``(G, B)`` in the resamples."""
        return self.values[:, 1 : 1 + self.replicates]

    @property
    def unbounded(self) -> tuple[str, ...]:
        """The groups whose standard error is unknown, without a bound."""
        unknown = self.fixed & (self.trials == 0)
        return tuple(
            name for name, is_unknown in zip(self.names, unknown, strict=True) if is_unknown
        )

    @property
    def fewest(self) -> int:
        """The smallest number of patients behind a value."""
        return int(self.patients.min(initial=MANY))

    def take(self, groups: Sequence[int]) -> MetricFamily:
        """Return the values of some groups, given their indices."""
        indices = list(groups)
        part = MetricFamily(
            names=tuple(self.names[index] for index in indices),
            values=self.values[indices],
            replicates=self.replicates,
            fixed=self.fixed[indices],
            trials=self.trials[indices],
            patients=self.patients[indices],
            scale=self.scale,
            paired=self.paired,
        )
        error, skew = self._spread  # one for each group, so they need not be computed again
        vars(part)["_spread"] = (error[indices], skew[indices])
        if indices and self._parent is None:
            vars(part)["_parent"] = (self, indices)
        return part

    @cached_property
    def _parent(self) -> tuple[MetricFamily, list[int]] | None:
        """The family that this one was taken from, and the indices of its groups there, or None.

        Intervals and correlations are looked up in it instead of being computed again.
        """
        return None

    @cached_property
    def _margins_by_tail(self) -> dict[float, tuple[Floats, Floats]]:
        """The results of `margins` by the error rate beyond each end."""
        return {}

    @cached_property
    def _correlations_with(self) -> dict[int, Floats]:
        """The correlations ``(G,)`` of all groups with one group, by the index of that group."""
        return {}

    @cached_property
    def correlation(self) -> Floats:
        """The correlations ``(G, G)`` of the values over the resamples."""
        if self._parent is not None and len(self.names) == 2:
            whole, (first, other) = self._parent
            if other not in whole._correlations_with:
                whole._correlations_with[other] = _correlations(
                    whole.resampled, whole.resampled[other]
                )
            pair = whole._correlations_with[other][first]
            return np.array([[1.0, pair], [pair, 1.0]])
        centred, norm = self._centred
        product = np.outer(norm, norm)
        r: Floats = np.divide(
            centred @ centred.T, product, out=np.eye(len(norm)), where=product > 0
        )
        return r

    def _correlation(self, first: slice, other: slice) -> Floats:
        """Return the correlations of two ranges of groups, 0 where a value never changes."""
        if first.start == 0 and first.stop >= len(self.names):
            return self.correlation[first, other]
        centred, norm = self._centred
        product = np.outer(norm[first], norm[other])
        r = np.zeros_like(product)
        return np.divide(centred[first] @ centred[other].T, product, out=r, where=product > 0)

    @cached_property
    def _centred(self) -> tuple[Floats, Floats]:
        """The values ``(G, b)`` less their means, and the norm ``(G,)`` of each row of them."""
        drawn = self.resampled[:, ~np.isnan(self.resampled).any(axis=0)]
        centred = drawn - drawn.mean(axis=1, keepdims=True)
        return centred, np.sqrt((centred**2).sum(axis=1))

    @cached_property
    def _spread(self) -> tuple[Floats, Floats]:
        """The standard error and the skewness of each group's value, ``(G,)`` each."""
        return error_and_skew(self.resampled, self.scale)

    def margins(self, tail: float) -> tuple[Floats, Floats]:
        """Return the lengths ``(G,)`` of each interval below and above its value.

        Parameters
        ----------
        tail
            The error rate beyond each end, in (0, .5).

        Notes
        -----
        All intervals but the exact one are Student's t intervals; their degrees of freedom are the
        number of patients less one. The interval depends on the scale:

        - ``"share"``: on the logit scale (Agresti, Categorical Data Analysis, 2013, 3.1.8).
        - ``"mean"``: corrected for skewness by Hall's transformation (J. R. Stat. Soc. B 1992), up
          to a factor of `LONGEST`.
        - ``"square"`` of a mean: as for a mean. It is conservative near 0, where resamples vary
          more than samples do.
        - ``"coefficient"``: without a transformation. The standard error is half the width of the
          middle 68 % of the resamples, as a few resamples are far away from the others.
        - A fixed share of 0 or 1: Clopper and Pearson's exact interval (Biometrika 1934).
        """
        if tail not in self._margins_by_tail:
            if self._parent is None:
                self._margins_by_tail[tail] = self._compute_margins(tail)
            else:
                whole, indices = self._parent
                below, above = whole.margins(tail)
                self._margins_by_tail[tail] = below[indices], above[indices]
        return self._margins_by_tail[tail]

    def _compute_margins(self, tail: float) -> tuple[Floats, Floats]:
        """Compute `margins`."""
        point, (error, skew) = self.values[:, 0], self._spread
        quantile = t_quantile(tail, self.patients)
        below, above = distances(point, error, skew, quantile, self.scale)
        exact = 1 - tail ** (1 / np.maximum(self.trials, 1))
        bounded = self.trials > 0
        return (
            np.where(bounded, np.where(point == 1, exact, 0.0), below),
            np.where(bounded, np.where(point == 0, exact, 0.0), above),
        )

    def pair_margins(self, tail: float) -> tuple[Floats, Floats]:
        """Return the lengths ``(pairs,)`` of the intervals of differences, below and above.

        The intervals of the two values are combined by MOVER (Zou & Donner, Stat. Med. 2008). It
        takes their correlation into account, as patients may be in both groups.
        """
        below, above = self.margins(tail)
        first, second = ONE_PAIR if len(self.names) == 2 else np.triu_indices(len(self.names), 1)
        r = self.correlation[first, second]
        return (
            _hypotenuse(below[first], above[second], r),
            _hypotenuse(above[first], below[second], r),
        )

    def pair_ends(self, tail: float) -> Iterator[tuple[float, float, float]]:
        """Yield the largest ends of the intervals of differences, block by block of the pairs.

        Each pair counts twice, once in each order, with the intervals of `pair_margins`. A block
        yields the largest lower end, the largest upper end and the longest side of an interval.
        The pairs of thousands of groups do not fit into memory at once.
        """
        below, above = self.margins(tail)
        point, rows = self.values[:, 0], max(1, PAIRS // len(self.names))
        for start in range(0, len(self.names) - 1, rows):
            first, other = slice(start, start + rows), slice(start, None)
            r = self._correlation(first, other)
            distance = point[first, None] - point[other]
            down = _hypotenuse(below[first, None], above[other], r)
            up = _hypotenuse(above[first, None], below[other], r)
            low = np.maximum(distance - down, -distance - up)
            high = np.maximum(distance + up, -distance + down)
            sides = np.maximum(down, up)
            yield _largest(low), _largest(high), _largest(sides)


def _correlations(drawn: Floats, other: Floats) -> Floats:
    """Return the correlation of each row of ``(G, B)`` with another row ``(B,)``, without NaN.

    It is 0 where one of the two rows is constant.
    """
    defined = ~np.isnan(drawn) & ~np.isnan(other)
    count = np.maximum(defined.sum(axis=1, keepdims=True), 1)
    first, second = (np.where(defined, row, 0.0) for row in (drawn, other[None]))
    first, second = (
        np.where(defined, row - row.sum(axis=1, keepdims=True) / count, 0.0)
        for row in (first, second)
    )
    norm = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    product = (first * second).sum(axis=1)
    r: Floats = np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)
    return r


def error_and_skew(drawn: Floats, scale: ErrorScale) -> tuple[Floats, Floats]:
    """Return the standard error and the skewness ``(G,)`` of values ``(G, B)``, without NaN."""
    error, skew = np.zeros(len(drawn)), np.zeros(len(drawn))
    defined = ~np.isnan(drawn).any(axis=1)  # computed at once; rows with NaN one by one
    if defined.any():
        error[defined], skew[defined] = _error_and_skew_of_defined(drawn[defined], scale)
    for group in np.flatnonzero(~defined):
        values = drawn[group, ~np.isnan(drawn[group])]
        error[[group]], skew[[group]] = _error_and_skew_of_defined(values[None], scale)
    return error, skew


def _error_and_skew_of_defined(drawn: Floats, scale: ErrorScale) -> tuple[Floats, Floats]:
    """Return error and skewness of values ``(G, B)`` without NaN, 0 if there are fewer than 2."""
    error, skew = np.zeros(len(drawn)), np.zeros(len(drawn))
    if drawn.shape[1] < 2:
        return error, skew
    error = drawn.std(axis=1, ddof=1)
    if scale in ("mean", "square"):
        varies = error > 0
        centred = drawn[varies] - drawn[varies].mean(axis=1, keepdims=True)
        skew[varies] = ((centred / error[varies, None]) ** 3).mean(axis=1)
    if scale == "coefficient":
        low, high = np.quantile(drawn, ndtr([-1, 1]), axis=1)
        error = (high - low) / 2
    return error, skew


def t_quantile(tail: float, patients: NDArray[np.intp]) -> Floats:
    """Return the upper ``tail`` quantile of Student's t, given the numbers of patients ``(G,)``."""
    return np.asarray(-stdtrit(np.maximum(patients - 1, 1), tail), dtype=np.float64)


def distances(
    point: Floats, error: Floats, skew: Floats, quantile: Floats, scale: ErrorScale
) -> tuple[Floats, Floats]:
    """Return the lengths ``(G,)`` of intervals that are not exact, below and above the values."""
    plain = quantile * error
    if scale in ("mean", "square"):
        return error * _skewed_quantile(quantile, skew), -error * _skewed_quantile(-quantile, skew)
    if scale != "share":
        return plain, plain
    inside = (point > 0) & (point < 1)
    margin = np.divide(plain, point * (1 - point), out=np.zeros_like(point), where=inside)
    odds = logit(np.where(inside, point, 0.5))
    low, high = expit(odds - margin), expit(odds + margin)
    return np.where(inside, point - low, plain), np.where(inside, high - point, plain)


def _skewed_quantile(t: Floats, skew: Floats) -> Floats:
    """Return the quantile that Hall's cubic transformation maps to the t quantile ``t``."""
    divisor = np.where(np.abs(skew) < SAME, 1.0, skew)
    skewed = 3 / divisor * (np.cbrt(1 + divisor * (t - divisor / 6)) - 1)
    longest = LONGEST * np.abs(t)
    return np.where(np.abs(skew) < SAME, t, skewed.clip(-longest, longest))


def _largest(pairs: Floats) -> float:
    """Return the largest value above the diagonal; the values ``(rows, columns)`` are changed."""
    pairs[:, : len(pairs)][np.tril_indices(len(pairs))] = -np.inf
    return float(pairs.max())


def _hypotenuse(first: Floats, other: Floats, correlation: Floats) -> Floats:
    """Return the root of first² + other² − 2 r first × other, at least 0."""
    square: Floats = first**2 + other**2 - 2 * correlation * first * other
    return np.sqrt(np.maximum(square, 0.0))


def metric_family(
    groups: Mapping[str, Scored],
    metric: Metric,
    values: Floats,
    resamples: Resamples,
    classes: Sequence[int],
) -> MetricFamily:
    """Return the values ``(G, 1 + B + J)`` of a metric in the groups as a family.

    Parameters
    ----------
    groups
        The samples of each group, by its name.
    metric, values
        The metric and its values.
    resamples
        The resamples that the values belong to.
    classes
        The classes that one-vs-rest means are taken over.
    """
    family = replace(
        family_of_draws(tuple(groups), values),
        replicates=resamples.replicates,
        scale=scale_of(metric),
    )
    if not family.resampled.size:
        return family
    # fmax and fmin ignore undefined replicates.
    ranges = np.fmax.reduce(family.resampled, axis=1) - np.fmin.reduce(family.resampled, axis=1)
    fixed = ranges <= SAME * np.maximum(1, np.abs(values[:, 0]))
    bounded = fixed & np.isin(values[:, 0], (0, 1)) & metric.share
    counts = [patients_behind(rows, metric, classes) for rows in groups.values()]
    patients = np.array(counts, dtype=np.intp)
    return replace(family, fixed=fixed, trials=np.where(bounded, patients, 0), patients=patients)


def scale_of(metric: Metric) -> ErrorScale:
    """Return how the intervals of a metric are computed."""
    if metric.share:
        return "share"
    if metric.form is bin_pairs:
        return "square"
    return "coefficient" if isinstance(metric.form, Logistic) else "mean"


def family_of_draws(names: tuple[str, ...], values: Floats) -> MetricFamily:
    """Return values ``(G, 1 + B)`` as a family whose intervals are normal, not exact."""
    zeros = np.zeros(len(names), dtype=np.intp)
    replicates = values.shape[1] - 1
    return MetricFamily(
        names, values, replicates, zeros.astype(np.bool_), zeros, zeros + MANY, "plain"
    )


def join_families(
    first: MetricFamily, other: MetricFamily, *, paired: bool = False
) -> MetricFamily:
    """Return the values of two families as one family."""
    return MetricFamily(
        (*first.names, *other.names),
        np.concatenate([first.values, other.values]),
        first.replicates,
        np.concatenate([first.fixed, other.fixed]),
        np.concatenate([first.trials, other.trials]),
        np.concatenate([first.patients, other.patients]),
        first.scale,
        paired,
    )
