"""A metric's values in several groups, with their errors and intervals."""

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
"""Values that lie no farther apart are the same but for rounding, relative to the value."""

MANY = np.iinfo(np.int32).max
"""Stands for an unknown number of patients: Student's t is then normal."""

LONGEST = 2.0
"""The longer side of a skewed interval is at most this many times as long as that of t."""

PAIRS = 2**17
"""Pairs of groups that are worked on at a time."""

ONE_PAIR = np.triu_indices(2, 1)
"""The first and the second place of the one pair of two groups."""

Scale = Literal["share", "mean", "coefficient", "square", "plain"]
"""How the ends of a value's interval are found from its error (see `Family.reach`)."""


@dataclass(frozen=True, eq=False)
class Family:
    """What one metric is in several groups, in the data and in each resample.

    Attributes
    ----------
    names
        The G groups.
    values
        ``(G, 1 + B + J)`` as in `Resamples`.
    replicates
        B.
    fixed
        ``(G,)``, whether every resample gives the same. Such a value is not certain: resamples
        only say nothing about its error.
    trials
        ``(G,)``, the patients behind a fixed share of 0 or 1, whose error a binomial bounds;
        elsewhere 0.
    patients
        ``(G,)``, the patients behind each value, of the rarer kind where it needs two.
    scale
        What kind of number it is.
    paired
        Whether the values are those of two models on the same samples.
    """

    names: tuple[str, ...]
    values: Floats
    replicates: int
    fixed: NDArray[np.bool_]
    trials: NDArray[np.intp]
    patients: NDArray[np.intp]
    scale: Scale
    paired: bool = False

    @property
    def drawn(self) -> Floats:
        """The values ``(G, B)`` in the resamples."""
        return self.values[:, 1 : 1 + self.replicates]

    @property
    def unbounded(self) -> tuple[str, ...]:
        """The groups about whose error nothing is known."""
        unknown = self.fixed & (self.trials == 0)
        return tuple(
            name for name, is_unknown in zip(self.names, unknown, strict=True) if is_unknown
        )

    @property
    def fewest(self) -> int:
        """The patients behind the value that has the fewest."""
        return int(self.patients.min(initial=MANY))

    def take(self, places: Sequence[int]) -> Family:
        """Return the values of some groups."""
        kept = list(places)
        part = Family(
            names=tuple(self.names[place] for place in kept),
            values=self.values[kept],
            replicates=self.replicates,
            fixed=self.fixed[kept],
            trials=self.trials[kept],
            patients=self.patients[kept],
            scale=self.scale,
            paired=self.paired,
        )
        error, skew = self._spread  # of each group by itself, so that it is known of some
        vars(part)["_spread"] = (error[kept], skew[kept])
        if kept and self._parent is None:
            vars(part)["_parent"] = (self, kept)
        return part

    @cached_property
    def _parent(self) -> tuple[Family, list[int]] | None:
        """The family that this one was taken from, and the places there; None where it was not.

        What is known of each group, or pair, there need not be computed again.
        """
        return None

    @cached_property
    def _reaches(self) -> dict[float, tuple[Floats, Floats]]:
        """How far the intervals go, by the error rate beyond each end."""
        return {}

    @cached_property
    def _beside(self) -> dict[int, Floats]:
        """The correlations ``(G,)`` of all groups with one of them, by its place."""
        return {}

    @cached_property
    def correlation(self) -> Floats:
        """``(G, G)``, the correlation of the values over the resamples."""
        if self._parent is not None and len(self.names) == 2:
            whole, (first, other) = self._parent
            if other not in whole._beside:
                whole._beside[other] = _correlations(whole.drawn, whole.drawn[other])
            beside = whole._beside[other][first]
            return np.array([[1.0, beside], [beside, 1.0]])
        apart, size = self._apart
        product = np.outer(size, size)
        r: Floats = np.divide(apart @ apart.T, product, out=np.eye(len(size)), where=product > 0)
        return r

    def _correlation(self, first: slice, other: slice) -> Floats:
        """Return the correlations of some groups with some; of a group with itself it is 0 or 1."""
        if first.start == 0 and first.stop >= len(self.names):
            return self.correlation[first, other]
        apart, size = self._apart
        product = np.outer(size[first], size[other])
        r = np.zeros_like(product)
        return np.divide(apart[first] @ apart[other].T, product, out=r, where=product > 0)

    @cached_property
    def _apart(self) -> tuple[Floats, Floats]:
        """The values ``(G, b)`` less their means, and the root of the sum of their squares."""
        drawn = self.drawn[:, ~np.isnan(self.drawn).any(axis=0)]
        apart = drawn - drawn.mean(axis=1, keepdims=True)
        return apart, np.sqrt((apart**2).sum(axis=1))

    @cached_property
    def _spread(self) -> tuple[Floats, Floats]:
        return spread_of(self.drawn, self.scale)

    def reach(self, tail: float) -> tuple[Floats, Floats]:
        """Return how far below and above each value its interval goes, ``(G,)`` each.

        Parameters
        ----------
        tail
            Error rate beyond each end.

        Notes
        -----
        Student's t has one degree of freedom less than there are patients. A share has its
        interval on the logit scale (Agresti, Categorical Data Analysis, 2013, 3.1.8); a mean has
        Hall's, which takes the skewness out of t (J. R. Stat. Soc. B 1992), up to `LONGEST`; a
        square of a mean likewise, which is conservative near 0, where resamples vary more than
        samples do; a coefficient has a plain one, with half the width of the middle 68 % of the
        resamples for its error, as a few of these are far out. A fixed share of 0 or 1 has
        Clopper and Pearson's (Biometrika 1934).
        """
        if tail not in self._reaches:
            if self._parent is None:
                self._reaches[tail] = self._new_reach(tail)
            else:
                whole, places = self._parent
                below, above = whole.reach(tail)
                self._reaches[tail] = below[places], above[places]
        return self._reaches[tail]

    def _new_reach(self, tail: float) -> tuple[Floats, Floats]:
        point, (error, skew) = self.values[:, 0], self._spread
        quantile = t_quantile(tail, self.patients)
        below, above = distances(point, error, skew, quantile, self.scale)
        exact = 1 - tail ** (1 / np.maximum(self.trials, 1))
        bounded = self.trials > 0
        return (
            np.where(bounded, np.where(point == 1, exact, 0.0), below),
            np.where(bounded, np.where(point == 0, exact, 0.0), above),
        )

    def pair_reach(self, tail: float) -> tuple[Floats, Floats]:
        """Return how far below and above the difference of each pair goes, ``(pairs,)`` each.

        The ends of the two values' intervals are joined (MOVER; Zou & Donner, Stat. Med. 2008),
        with their correlation where the same patients are in both groups.
        """
        below, above = self.reach(tail)
        first, second = ONE_PAIR if len(self.names) == 2 else np.triu_indices(len(self.names), 1)
        r = self.correlation[first, second]
        return (
            _joined(below[first], above[second], r),
            _joined(above[first], below[second], r),
        )

    def pair_ends(self, tail: float) -> Iterator[tuple[float, float, float]]:
        """Yield the largest ends of the intervals of distances, of some of the pairs at a time.

        These are the largest lower end and the largest upper end of how far one group of a pair
        lies above the other, either of them first, and the longest side of these intervals, which
        are those of `pair_reach`. The pairs of thousands of groups are too many to be held at once.
        """
        below, above = self.reach(tail)
        point, rows = self.values[:, 0], max(1, PAIRS // len(self.names))
        for start in range(0, len(self.names) - 1, rows):
            first, other = slice(start, start + rows), slice(start, None)
            r = self._correlation(first, other)
            distance = point[first, None] - point[other]
            down = _joined(below[first, None], above[other], r)
            up = _joined(above[first, None], below[other], r)
            low = np.maximum(distance - down, -distance - up)
            high = np.maximum(distance + up, -distance + down)
            sides = np.maximum(down, up)
            yield _largest(low), _largest(high), _largest(sides)


def _correlations(drawn: Floats, other: Floats) -> Floats:
    """Return the correlation of each of values ``(G, B)`` with others ``(B,)``, NaN left out.

    It is 0 where one of the two is the same in every resample.
    """
    both = ~np.isnan(drawn) & ~np.isnan(other)
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    first, second = (np.where(both, part, 0.0) for part in (drawn, other[None]))
    first, second = (
        np.where(both, part - part.sum(axis=1, keepdims=True) / count, 0.0)
        for part in (first, second)
    )
    size = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    product = (first * second).sum(axis=1)
    r: Floats = np.divide(product, size, out=np.zeros_like(size), where=size > 0)
    return r


def spread_of(drawn: Floats, scale: Scale) -> tuple[Floats, Floats]:
    """Return the standard error and the skewness of values ``(G, B)``, NaN left out."""
    error, skew = np.zeros(len(drawn)), np.zeros(len(drawn))
    whole = ~np.isnan(drawn).any(axis=1)  # these at once, the others one by one
    if whole.any():
        error[whole], skew[whole] = _spread_of_defined(drawn[whole], scale)
    for group in np.flatnonzero(~whole):
        values = drawn[group, ~np.isnan(drawn[group])]
        error[[group]], skew[[group]] = _spread_of_defined(values[None], scale)
    return error, skew


def _spread_of_defined(drawn: Floats, scale: Scale) -> tuple[Floats, Floats]:
    """Return standard error and skewness of values ``(G, B)`` without NaN; 0 of fewer than two."""
    error, skew = np.zeros(len(drawn)), np.zeros(len(drawn))
    if drawn.shape[1] < 2:
        return error, skew
    error = drawn.std(axis=1, ddof=1)
    if scale in ("mean", "square"):
        varies = error > 0
        apart = drawn[varies] - drawn[varies].mean(axis=1, keepdims=True)
        skew[varies] = ((apart / error[varies, None]) ** 3).mean(axis=1)
    if scale == "coefficient":
        low, high = np.quantile(drawn, ndtr([-1, 1]), axis=1)
        error = (high - low) / 2
    return error, skew


def t_quantile(tail: float, patients: NDArray[np.intp]) -> Floats:
    """Return the t that is exceeded with a chance of ``tail``, by the number of patients."""
    return np.asarray(-stdtrit(np.maximum(patients - 1, 1), tail), dtype=np.float64)


def distances(
    point: Floats, error: Floats, skew: Floats, quantile: Floats, scale: Scale
) -> tuple[Floats, Floats]:
    """Return how far intervals that are not exact reach below and above values ``(G,)``."""
    plain = quantile * error
    if scale in ("mean", "square"):
        return error * _unskewed(quantile, skew), -error * _unskewed(-quantile, skew)
    if scale != "share":
        return plain, plain
    inside = (point > 0) & (point < 1)
    of_odds = np.divide(plain, point * (1 - point), out=np.zeros_like(point), where=inside)
    odds = logit(np.where(inside, point, 0.5))
    low, high = expit(odds - of_odds), expit(odds + of_odds)
    return np.where(inside, point - low, plain), np.where(inside, high - point, plain)


def _unskewed(t: Floats, skew: Floats) -> Floats:
    """Return the quantile of a skewed t that Hall's cubic transformation takes to ``t``."""
    bent = np.where(np.abs(skew) < SAME, 1.0, skew)
    skewed = 3 / bent * (np.cbrt(1 + bent * (t - bent / 6)) - 1)
    longest = LONGEST * np.abs(t)
    return np.where(np.abs(skew) < SAME, t, skewed.clip(-longest, longest))


def _largest(pairs: Floats) -> float:
    """Return the largest of values ``(rows, columns)`` of pairs, those above the diagonal."""
    pairs[:, : len(pairs)][np.tril_indices(len(pairs))] = -np.inf
    return float(pairs.max())


def _joined(first: Floats, other: Floats, correlation: Floats) -> Floats:
    square: Floats = first**2 + other**2 - 2 * correlation * first * other
    return np.sqrt(np.maximum(square, 0.0))


def family(
    groups: Mapping[str, Scored],
    metric: Metric,
    values: Floats,
    resamples: Resamples,
    classes: Sequence[int],
) -> Family:
    """Bring together the values ``(G, 1 + B + J)`` of a metric in the groups."""
    whole = replace(
        as_drawn(tuple(groups), values), replicates=resamples.replicates, scale=scale_of(metric)
    )
    if not whole.drawn.size:
        return whole
    # fmax and fmin pass over undefined replicates.
    apart = np.fmax.reduce(whole.drawn, axis=1) - np.fmin.reduce(whole.drawn, axis=1)
    fixed = apart <= SAME * np.maximum(1, np.abs(values[:, 0]))
    bounded = fixed & np.isin(values[:, 0], (0, 1)) & metric.share
    behind = [patients_behind(rows, metric, classes) for rows in groups.values()]
    patients = np.array(behind, dtype=np.intp)
    return replace(whole, fixed=fixed, trials=np.where(bounded, patients, 0), patients=patients)


def scale_of(metric: Metric) -> Scale:
    """Return what kind of number a metric is."""
    if metric.share:
        return "share"
    if metric.form is bin_pairs:
        return "square"
    return "coefficient" if isinstance(metric.form, Logistic) else "mean"


def as_drawn(names: tuple[str, ...], values: Floats) -> Family:
    """Return values as a family without exact intervals and with many patients behind each."""
    nothing = np.zeros(len(names), dtype=np.intp)
    replicates = values.shape[1] - 1
    return Family(
        names, values, replicates, nothing.astype(np.bool_), nothing, nothing + MANY, "plain"
    )


def beside(first: Family, other: Family, *, paired: bool = False) -> Family:
    """Return the values of both."""
    return Family(
        (*first.names, *other.names),
        np.concatenate([first.values, other.values]),
        first.replicates,
        np.concatenate([first.fixed, other.fixed]),
        np.concatenate([first.trials, other.trials]),
        np.concatenate([first.patients, other.patients]),
        first.scale,
        paired,
    )
