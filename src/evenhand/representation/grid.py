"""How far two groups are apart over a grid of pairs of models: sizes, ratios, a correlation.

Each pair of models is looked at layer by layer: how much more do the two agree in one group than in
another? All pairs read the same patients, and pairs that differ in their seed are one cell. So what
is said of the grid rests on as many patients and seeds as there are, however many cells it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from evenhand.metrics.registry import Floats
from evenhand.representation.by_group import Comparison
from evenhand.representation.cka import batches, cka
from evenhand.representation.jackknife import Jackknifed, MeanSize, absolute_mean, ratio_of
from evenhand.representation.layers import Layer, Rows
from evenhand.representation.permutation import permuted_differences

DRAWS = 1000
"""Resamples of patients and seeds for the interval of a correlation."""

FEWEST_POINTS = 4
"""Points below which nothing is said of a correlation."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """How alike two models are in each of two groups.

    Attributes
    ----------
    first, second
        ``(p, q)`` CKA of their layers in each group.
    permuted
        ``(1 + P, p, q)`` the first less the second: as the groups are, and with members permuted
        among patients of one label.
    """

    first: Jackknifed
    second: Jackknifed
    permuted: Floats

    @property
    def difference(self) -> Jackknifed:
        """CKA in the first group less that in the second."""
        return self.first.less(self.second)


def contrast_of(
    layers: tuple[Sequence[Layer], Sequence[Layer]],
    groups: tuple[Rows, Rows],
    labels: NDArray[np.int64],
    comparison: Comparison,
) -> Contrast:
    """Compare two models in two groups, in batches of one size, the same for all pairs of models.

    Parameters
    ----------
    layers
        Of the two models, on the same N samples, one sample per patient.
    groups
        The rows of each group.
    labels
        ``(N,)`` classes; members are permuted among patients of one class.
    comparison
        Sizes of batches, permutations and the seed of both.
    """
    rng = np.random.default_rng(comparison.seed)
    size = min(comparison.batch, *map(len, groups))
    first, second = (cka(*layers, batches(rows, size, rng)) for rows in groups)
    rows = np.sort(np.concatenate(groups))
    member = np.isin(rows, groups[0])
    permuted = permuted_differences(
        layers, rows, member, labels[rows], comparison.permutations, rng
    )
    return Contrast(first, second, permuted)


@dataclass(frozen=True, eq=False)
class Sizes:
    """How far the groups of one attribute are apart, in mean |difference| over pairs of layers.

    Attributes
    ----------
    values
        ``(S, C)``: of each seed and cell.
    influence
        ``(N, S, C)``: of each patient on them (see `Jackknifed`).
    permuted
        ``(1 + P, S, C)``: of the groups as they are, and with members permuted.
    """

    values: Floats
    influence: Floats
    permuted: Floats

    @classmethod
    def of(cls, contrasts: Sequence[Sequence[Contrast]]) -> Sizes:
        """Return the sizes of contrasts by seed and cell; layers that do not vary are left out."""
        sizes = [
            [absolute_mean(_defined(contrast.difference)) for contrast in row] for row in contrasts
        ]
        permuted = [
            [np.nanmean(np.abs(contrast.permuted), axis=(1, 2)) for contrast in row]
            for row in contrasts
        ]
        return cls(
            np.array([[size.value for size in row] for row in sizes]),
            np.moveaxis(np.array([[size.influence for size in row] for row in sizes]), -1, 0),
            np.moveaxis(np.array(permuted), -1, 0),
        )

    def cell(self, place: int) -> Sizes:
        """Return one cell's."""
        chosen = slice(place, place + 1)
        return Sizes(
            self.values[:, chosen], self.influence[:, :, chosen], self.permuted[:, :, chosen]
        )

    @property
    def mean(self) -> SeededMean:
        """Of all cells and seeds."""
        return SeededMean.of(Jackknifed(self.values.mean(axis=1), self.influence.mean(axis=2)))

    @property
    def p(self) -> float:
        """Of "the groups are no further apart than permuted ones", over all cells and seeds.

        Membership is permuted once for all cells and seeds, so that the test is exact however much
        they have in common.
        """
        sizes = self.permuted.mean(axis=(1, 2))
        return float(np.count_nonzero(sizes >= sizes[0] * (1 - 1e-9)) / len(sizes))

    @property
    def by_chance(self) -> float:
        """The mean size of permuted groups, which noise alone makes."""
        return float(self.permuted[1:].mean())


@dataclass(frozen=True, eq=False)
class SeededMean:
    """A mean over seeds with its error, which is of patients and seeds.

    Attributes
    ----------
    number
        The mean; its influences are the N patients' and then the S seeds'.
    seeds
        S.
    """

    number: Jackknifed
    seeds: int

    @classmethod
    def of(cls, by_seed: Jackknifed) -> SeededMean:
        """Return the mean of numbers ``(S, …)`` over seeds; a single one has no error."""
        values = by_seed.value
        seeds = len(values)
        mean = values.mean(axis=0)
        of_patients = by_seed.influence.mean(axis=1)
        of_seeds = (values - mean) / np.sqrt(seeds * max(seeds - 1, 1))
        return cls(Jackknifed(mean, np.concatenate([of_patients, of_seeds])), seeds)

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Return the ends of a t interval; degrees of freedom are Satterthwaite's."""
        reach = self.quantile(level) * self.number.error
        return self.number.value - reach, self.number.value + reach

    def quantile(self, level: float) -> Floats:
        """Return how many errors the ends of an interval lie from the value."""
        squares = np.square(self.number.influence)
        parts = [(squares[: -self.seeds].sum(axis=0), len(squares) - self.seeds - 1)]
        parts += [(squares[-self.seeds :].sum(axis=0), self.seeds - 1)] if self.seeds > 1 else []
        total = sum(part for part, _ in parts)
        below = sum(part**2 / freedom for part, freedom in parts)
        freedom = np.where(below > 0, total**2 / np.where(below > 0, below, 1), 1)
        return np.asarray(-stdtrit(freedom, (1 - level) / 2), np.float64)


def size_ratio_of(larger: Sizes, smaller: Sizes, level: float) -> MeanSize | None:
    """Return how many times further apart the groups of one attribute are than those of another.

    Fieller's interval over patients and seeds; None where it has no end.
    """
    above, below = larger.mean, smaller.mean
    quantile = max(float(above.quantile(level)), float(below.quantile(level)))
    return ratio_of(above.number, below.number, quantile)


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation of sizes with gaps in performance, over cells (and attributes).

    Attributes
    ----------
    value
        Of the points.
    low, high
        Percentile interval over patients of both splits and seeds.
    p
        Of "sizes have nothing to do with gaps", by permuted groups.
    points
        How many points there are; they are not independent.
    """

    value: float
    low: float
    high: float
    p: float
    points: int


def correlation_of(
    sizes: Sequence[Sizes], gaps: Sequence[Floats], level: float, rng: np.random.Generator
) -> Correlation | None:
    """Correlate how far groups are apart with how differently they are served.

    Parameters
    ----------
    sizes
        Of each attribute, on the same N patients.
    gaps
        Of each attribute ``(S, C, 1 + B)``: the gap in performance of each seed and cell, on the
        data and in B resamples of other patients.
    level
        Of the interval.
    rng
        Draws patients and seeds.

    Returns
    -------
    Correlation or None
        None where there are too few points, or one side does not vary.

    Notes
    -----
    Each resample draws seeds and the patients whose performance is measured; the patients whose
    layers are compared enter by normal draws of their influence. The p-value permutes the groups of
    the latter, once for all cells and seeds, and holds the gaps as they are. So cells count for no
    more than the patients and seeds behind them.
    """
    x = np.concatenate([own.values.mean(axis=0) for own in sizes])
    y = np.concatenate([gap[:, :, 0].mean(axis=0) for gap in gaps])
    value = float(_spearman(x[None], y[None])[0])
    if len(x) < FEWEST_POINTS or np.isnan(value):
        return None
    draws = min(DRAWS, min(gap.shape[2] for gap in gaps) - 1)
    seeds = len(sizes[0].values)
    chosen = rng.integers(seeds, size=(draws, seeds))
    normal = rng.standard_normal((draws, len(sizes[0].influence)))
    rows = np.arange(draws)[:, None]
    sizes_drawn, gaps_drawn = list[Floats](), list[Floats]()
    for own, gap in zip(sizes, gaps, strict=True):
        moved = own.values + np.tensordot(normal, own.influence, axes=1)  # (draws, S, C)
        sizes_drawn.append(moved[rows, chosen].mean(axis=1))
        other = np.moveaxis(gap[:, :, 1 : draws + 1], -1, 0)  # (draws, S, C)
        gaps_drawn.append(other[rows, chosen].mean(axis=1))
    resampled = _spearman(np.concatenate(sizes_drawn, axis=1), np.concatenate(gaps_drawn, axis=1))
    ends = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    permuted = np.concatenate([own.permuted.mean(axis=1) for own in sizes], axis=1)
    by_chance = np.abs(_spearman(permuted, np.broadcast_to(y, permuted.shape)))
    as_large = by_chance[1:] >= abs(value) - 1e-9
    p = (1 + np.count_nonzero(as_large)) / len(by_chance)
    return Correlation(value, float(ends[0]), float(ends[1]), float(p), len(x))


def _spearman(x: Floats, y: Floats) -> Floats:
    """Return the rank correlation of each two rows; NaN where one does not vary."""
    ranks = [rankdata(side, axis=1) for side in (x, y)]
    left, right = (side - side.mean(axis=1, keepdims=True) for side in ranks)
    root = np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))
    undefined = (root == 0) | np.isnan(x).any(axis=1) | np.isnan(y).any(axis=1)
    correlation: Floats = (left * right).sum(axis=1) / np.where(undefined, np.nan, root)
    return correlation


def _defined(numbers: Jackknifed) -> Jackknifed:
    """Return the numbers of the pairs of layers that vary, ``(k,)``."""
    varies = np.isfinite(numbers.value)
    return Jackknifed(numbers.value[varies], numbers.influence[:, varies])
