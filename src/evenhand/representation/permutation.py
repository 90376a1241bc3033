"""Permutation tests of whether two models' similarity in a group differs from other patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats
from evenhand.representation.cka import GramMatrix, Layer, RowIndices, alignment, centred_gram


@dataclass(frozen=True, eq=False)
class GroupSamples:
    """The samples of a test, and which of them are in the group.

    Attributes
    ----------
    layers
        Layers of the two models, on the same N samples, one sample per patient.
    rows
        The n samples of the test; each layer's n × n Gram matrix is computed once.
    member
        ``(n,)``: whether each of them is in the group.
    strata
        ``(n,)``: label of each of them. Membership is permuted among samples of one label, so a
        different prevalence in the group is not mistaken for a different representation.
    """

    layers: tuple[Sequence[Layer], Sequence[Layer]]
    rows: RowIndices
    member: NDArray[np.bool_]
    strata: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class GroupTest:
    """Test of a group against all other samples.

    Attributes
    ----------
    difference
        ``(p, q)``: CKA in the group minus CKA in the other samples.
    p
        The p-value of "no pair of layers differs", by the largest standardised difference; NaN if
        no pair has a difference.
    p_adjusted
        ``(p, q)``: p-value of each pair, corrected for the number of pairs (max-t); NaN for a pair
        without a difference.
    """

    difference: Floats
    p: float
    p_adjusted: Floats


@dataclass(frozen=True, eq=False)
class _Subsets:
    """The observed group, then the permuted ones, as columns of 0 and 1."""

    member: NDArray[np.floating]  # (n, 1 + P)

    def row_sums(self, gram: GramMatrix) -> NDArray[np.floating]:
        """Return each row's sum over the columns of each group, ``(n, 1 + P)``."""
        sums: NDArray[np.floating] = gram.entries @ self.member
        return sums

    def hsic(
        self,
        product: NDArray[np.floating],
        first: NDArray[np.floating],
        second: NDArray[np.floating],
    ) -> Floats:
        """Return the unbiased HSIC inside each group and inside its complement, ``(2, 1 + P)``.

        ``product`` is the entrywise product of two centred Gram matrices; ``first`` and ``second``
        are their `row_sums`. Each row of a centred matrix sums to 0, so a row's sum over the
        complement is minus its sum over the group.
        """
        sums = product.sum(axis=1, dtype=np.float64)
        inside = _column_products(self.member, product @ self.member)
        outside = sums.sum() - 2 * (sums @ self.member) + inside
        all_rows = np.einsum("np,np->p", first, second, dtype=np.float64)
        group_rows = np.einsum("np,np,np->p", self.member, first, second, dtype=np.float64)
        total = _column_products(self.member, first) * _column_products(self.member, second)
        m = np.array([[self.member[:, 0].sum()], [(1 - self.member[:, 0]).sum()]], np.float64)
        rows = np.stack([group_rows, all_rows - group_rows])
        inner = np.stack([inside, outside])
        scaled: Floats = inner + total / ((m - 1) * (m - 2)) - 2 * rows / (m - 2)
        return scaled / (m * (m - 3))


def group_test(samples: GroupSamples, permutations: int, rng: np.random.Generator) -> GroupTest:
    """Test whether two models are as similar in a group as in all other samples.

    Parameters
    ----------
    samples
        The samples, and which of them are in the group.
    permutations
        Number of permutations P.
    rng
        Generator of the permutations.

    Notes
    -----
    Differences are standardised by their mean and standard deviation over all permutations, the
    observed one included, so the test is exact. The largest over pairs of layers gives corrected
    p-values (Westfall & Young 1993). An undefined permutation counts as one at least as large. A
    pair that is undefined in all permutations, because a layer does not vary, is not tested.
    """
    difference = permuted_differences(samples, permutations, rng)
    tested = ~np.isnan(difference).all(axis=0)  # (p, q)
    adjusted = np.full(tested.shape, np.nan)
    if not tested.any():
        return GroupTest(difference[0], np.nan, adjusted)
    values = difference[:, tested]  # (1 + P, pairs)
    centre, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    size = np.abs(values - centre) / np.where(spread > 0, spread, 1)
    largest = np.where(np.isnan(size), np.inf, size).max(axis=1)
    as_large = largest[1:, None] >= size[0] * (1 - 1e-9)
    by_pair = (1 + as_large.sum(axis=0)) / (1 + permutations)
    adjusted[tested] = np.where(np.isnan(size[0]), np.nan, by_pair)
    p = (1 + np.count_nonzero(largest[1:] >= largest[0] * (1 - 1e-9))) / (1 + permutations)
    return GroupTest(difference[0], p, adjusted)


def permuted_differences(
    samples: GroupSamples, permutations: int, rng: np.random.Generator
) -> Floats:
    """Return CKA in a group minus CKA in all other samples: observed, then permuted.

    Parameters as in `group_test`; the result is ``(1 + P, p, q)``.
    """
    member = permute_members(samples, permutations, rng)
    dtype = np.result_type(*(layer.features.dtype for model in samples.layers for layer in model))
    inside, outside = _similarities(samples, _Subsets(member.astype(dtype)))
    difference: Floats = inside - outside
    return difference


def _similarities(samples: GroupSamples, subsets: _Subsets) -> tuple[Floats, Floats]:
    """Return CKA inside each subset and inside its complement, ``(1 + P, p, q)`` each."""
    first, second = samples.layers
    grams = [centred_gram(layer, samples.rows) for layer in first]
    sums = [subsets.row_sums(gram) for gram in grams]
    cross: dict[tuple[int, int], Floats] = {}
    second_terms = []
    for column, layer in enumerate(second):
        gram = centred_gram(layer, samples.rows)
        row_sums = subsets.row_sums(gram)
        second_terms.append(subsets.hsic(gram.entries**2, row_sums, row_sums))
        for row, other in enumerate(grams):
            product = other.entries * gram.entries
            cross[row, column] = subsets.hsic(product, sums[row], row_sums)
    first_terms = [
        subsets.hsic(gram.entries**2, row_sums, row_sums)
        for gram, row_sums in zip(grams, sums, strict=True)
    ]
    cross_terms = [cross[pair] for pair in sorted(cross)]
    terms = np.stack([*cross_terms, *first_terms, *second_terms], axis=-1)
    inside, outside = alignment(terms, len(first), len(second))
    return inside, outside


def permute_members(
    samples: GroupSamples, permutations: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return membership as column 0, then permuted inside each stratum, ``(n, 1 + P)``."""
    columns = np.repeat(samples.member[:, None], 1 + permutations, axis=1)
    for stratum in np.unique(samples.strata):
        rows = np.flatnonzero(samples.strata == stratum)
        columns[rows, 1:] = rng.permuted(columns[rows, 1:], axis=0)
    return columns


def _column_products(first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
    """Return the inner product of each column of one array with the same column of another."""
    sums: Floats = np.einsum("np,np->p", first, second, dtype=np.float64)
    return sums
