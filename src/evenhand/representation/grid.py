"""Differences of similarity between two groups, over a grid of pairs of models.

For each pair of models, layer by layer: how much more similar are the two in one group than in the
other? All pairs use the same patients, and pairs that differ only in their seed form one cell. So
the uncertainty is that of the patients and seeds, whatever the number of cells.
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
from evenhand.representation.cka import Layer, RowIndices, batches, cka
from evenhand.representation.jackknife import (
    IntervalEstimate,
    JackknifeEstimate,
    mean_absolute,
    ratio_of,
)
from evenhand.representation.permutation import GroupSamples, permuted_differences

DRAWS = 1000
"""Resamples of patients and seeds for the interval of a correlation."""

FEWEST_POINTS = 4
"""Smallest number of points for a correlation."""


@dataclass(frozen=True, eq=False)
class GroupContrast:
    """Similarity of two models in each of two groups.

    Attributes
    ----------
    first, second
        CKA ``(p, q)`` of their layers in the first and in the second group.
    permuted
        The first group's CKA minus the second's, ``(1 + P, p, q)``: first observed, then with
        members permuted among patients of the same label.
    """

    first: JackknifeEstimate
    second: JackknifeEstimate
    permuted: Floats

    @property
    def difference(self) -> JackknifeEstimate:
        """CKA in the first group minus CKA in the second."""
        return self.first.minus(self.second)


def contrast_of(
    layers: tuple[Sequence[Layer], Sequence[Layer]],
    groups: tuple[RowIndices, RowIndices],
    labels: NDArray[np.int64],
    comparison: Comparison,
) -> GroupContrast:
    """Compare two models in two groups.

    With the same groups and settings, all pairs of models get the same batches and permutations.

    Parameters
    ----------
    layers
        Layers of the two models, on the same N samples, one sample per patient.
    groups
        The rows of each group.
    labels
        Classes ``(N,)``; members are permuted among patients of one class.
    comparison
        Size of the batches, number of permutations, and seed.
    """
    rng = np.random.default_rng(comparison.seed)
    size = min(comparison.batch, *map(len, groups))
    first, second = (cka(*layers, batches(rows, size, rng)) for rows in groups)
    rows = np.sort(np.concatenate(groups))
    samples = GroupSamples(layers, rows, np.isin(rows, groups[0]), labels[rows])
    permuted = permuted_differences(samples, comparison.permutations, rng)
    return GroupContrast(first, second, permuted)


@dataclass(frozen=True, eq=False)
class Sizes:
    """Sizes of an attribute's differences: mean |difference of CKA| over pairs of layers.

    Attributes
    ----------
    values
        The size ``(S, C)`` for each of S seeds and C cells.
    influence
        The influence ``(N, S, C)`` of each patient on the sizes (see `JackknifeEstimate`).
    permuted
        The size ``(1 + P, S, C)`` of the observed groups, then of permuted ones.
    """

    values: Floats
    influence: Floats
    permuted: Floats

    @classmethod
    def of_contrasts(cls, contrasts: Sequence[Sequence[GroupContrast]]) -> Sizes:
        """Return the sizes of contrasts by seed and cell; layers that do not vary are left out."""
        sizes = [
            [mean_absolute(contrast.difference.defined()) for contrast in row] for row in contrasts
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

    def cell(self, column: int) -> Sizes:
        """Return the sizes of one cell."""
        chosen = slice(column, column + 1)
        return Sizes(
            self.values[:, chosen], self.influence[:, :, chosen], self.permuted[:, :, chosen]
        )

    @property
    def mean(self) -> SeededMean:
        """The mean over all cells and seeds."""
        return SeededMean.over_seeds(
            JackknifeEstimate(self.values.mean(axis=1), self.influence.mean(axis=2))
        )

    @property
    def p(self) -> float:
        """The p-value of "the differences are no larger than with permuted groups".

        The statistic is the mean over all cells and seeds. Each permutation serves all of them, so
        the test is exact although cells share patients.
        """
        sizes = self.permuted.mean(axis=(1, 2))
        return float(np.count_nonzero(sizes >= sizes[0] * (1 - 1e-9)) / len(sizes))

    @property
    def by_chance(self) -> float:
        """The mean size with permuted groups, which is due to noise alone."""
        return float(self.permuted[1:].mean())


@dataclass(frozen=True, eq=False)
class SeededMean:
    """A mean over seeds whose error includes patients and seeds.

    Attributes
    ----------
    number
        The mean; its influence has N rows for patients, then S rows for seeds.
    seeds
        Number of seeds S.
    """

    number: JackknifeEstimate
    seeds: int

    @classmethod
    def over_seeds(cls, by_seed: JackknifeEstimate) -> SeededMean:
        """Return the mean of numbers ``(S, …)`` over seeds; a single seed adds no error."""
        values = by_seed.value
        seeds = len(values)
        mean = values.mean(axis=0)
        patient_influence = by_seed.influence.mean(axis=1)
        seed_influence = (values - mean) / np.sqrt(seeds * max(seeds - 1, 1))
        return cls(
            JackknifeEstimate(mean, np.concatenate([patient_influence, seed_influence])), seeds
        )

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Return the ends of a t interval with Satterthwaite's degrees of freedom."""
        margin = self.quantile(level) * self.number.error
        return self.number.value - margin, self.number.value + margin

    def quantile(self, level: float) -> Floats:
        """Return the t quantile: half the width of the interval, in standard errors."""
        squares = np.square(self.number.influence)
        parts = [(squares[: -self.seeds].sum(axis=0), len(squares) - self.seeds - 1)]
        parts += [(squares[-self.seeds :].sum(axis=0), self.seeds - 1)] if self.seeds > 1 else []
        total = sum(part for part, _ in parts)
        denominator = sum(part**2 / freedom for part, freedom in parts)
        freedom = np.where(denominator > 0, total**2 / np.where(denominator > 0, denominator, 1), 1)
        return np.asarray(-stdtrit(freedom, (1 - level) / 2), np.float64)


def size_ratio_of(larger: Sizes, smaller: Sizes, level: float) -> IntervalEstimate | None:
    """Return the ratio of two attributes' mean sizes, with Fieller's interval.

    The interval is over patients and seeds; the result is None if the interval is unbounded.
    """
    numerator, denominator = larger.mean, smaller.mean
    quantile = max(float(numerator.quantile(level)), float(denominator.quantile(level)))
    return ratio_of(numerator.number, denominator.number, quantile)


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation of sizes with gaps in performance, over cells (and attributes).

    Attributes
    ----------
    value
        The correlation of the points.
    low, high
        Percentile interval over seeds and the patients of both splits.
    p
        The p-value of "sizes and gaps are unrelated", by permuted groups.
    points
        Number of points; they are not independent.
    """

    value: float
    low: float
    high: float
    p: float
    points: int


def correlation_of(
    sizes: Sequence[Sizes], gaps: Sequence[Floats], level: float, rng: np.random.Generator
) -> Correlation | None:
    """Correlate the groups' differences of similarity with their gaps in performance.

    Parameters
    ----------
    sizes
        The sizes of each attribute, on the same N patients.
    gaps
        The gap in performance of each attribute, ``(S, C, 1 + B)`` by seed and cell: on the data,
        then in B resamples of the patients whose performance is measured.
    level
        Nominal coverage of the interval.
    rng
        Generator of the draws of patients and seeds.

    Returns
    -------
    Correlation or None
        None if there are too few points, or if sizes or gaps do not vary.

    Notes
    -----
    Each resample draws seeds and the patients whose performance is measured. The patients whose
    layers are compared are resampled by normal draws of their influence. The p-value permutes the
    groups of these patients, with the same permutations for all cells and seeds, and does not
    change the gaps.
    """
    x = np.concatenate([size.values.mean(axis=0) for size in sizes])
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
    for size, gap in zip(sizes, gaps, strict=True):
        size_draws = size.values + np.tensordot(normal, size.influence, axes=1)  # (draws, S, C)
        sizes_drawn.append(size_draws[rows, chosen].mean(axis=1))
        gap_draws = np.moveaxis(gap[:, :, 1 : draws + 1], -1, 0)  # (draws, S, C)
        gaps_drawn.append(gap_draws[rows, chosen].mean(axis=1))
    resampled = _spearman(np.concatenate(sizes_drawn, axis=1), np.concatenate(gaps_drawn, axis=1))
    ends = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    permuted = np.concatenate([size.permuted.mean(axis=1) for size in sizes], axis=1)
    by_chance = np.abs(_spearman(permuted, np.broadcast_to(y, permuted.shape)))
    as_large = by_chance[1:] >= abs(value) - 1e-9
    p = (1 + np.count_nonzero(as_large)) / len(by_chance)
    return Correlation(value, float(ends[0]), float(ends[1]), float(p), len(x))


def _spearman(x: Floats, y: Floats) -> Floats:
    """Return the rank correlation of each row of x and y; NaN if one of them is constant."""
    ranks = [rankdata(values, axis=1) for values in (x, y)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    root = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    undefined = (root == 0) | np.isnan(x).any(axis=1) | np.isnan(y).any(axis=1)
    correlation: Floats = (a * b).sum(axis=1) / np.where(undefined, np.nan, root)
    return correlation
