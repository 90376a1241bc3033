"""Tests of "the two models agree in this group as in any like it", by permuting patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats
from evenhand.representation.cka import alignment
from evenhand.representation.hsic import Matrix, centred_gram
from evenhand.representation.layers import Layer, Rows


@dataclass(frozen=True, eq=False)
class GroupTest:
    """A group against the rest.

    Attributes
    ----------
    difference
        ``(p, q)``: CKA in the group less CKA in the rest.
    p
        Of "no pair of layers differs": the largest of the standardised differences.
    p_adjusted
        ``(p, q)``: of each pair, corrected for their number by the same largest.
    """

    difference: Floats
    p: float
    p_adjusted: Floats


@dataclass(frozen=True, eq=False)
class _Subsets:
    """The observed group and the permuted ones, as columns of 0 and 1."""

    member: NDArray[np.floating]  # (n, 1 + P)

    def row_sums(self, gram: Matrix) -> NDArray[np.floating]:
        """Return each row's sum over the columns of each group, ``(n, 1 + P)``."""
        sums: NDArray[np.floating] = gram.entries @ self.member
        return sums

    def hsic(
        self,
        product: NDArray[np.floating],
        first: NDArray[np.floating],
        second: NDArray[np.floating],
    ) -> Floats:
        """Return the unbiased HSIC inside each group and inside its rest, ``(2, 1 + P)``.

        ``product`` is the entrywise product of two centred Gram matrices, ``one`` and ``two`` are
        their `row_sums`. As whole rows sum to 0, the rest has the group's sums with other signs.
        """
        sums = product.sum(axis=1, dtype=np.float64)
        inside = _columns(self.member, product @ self.member)
        rest = sums.sum() - 2 * (sums @ self.member) + inside
        both = np.einsum("np,np->p", first, second, dtype=np.float64)
        held = np.einsum("np,np,np->p", self.member, first, second, dtype=np.float64)
        total = _columns(self.member, first) * _columns(self.member, second)
        m = np.array([[self.member[:, 0].sum()], [(1 - self.member[:, 0]).sum()]], np.float64)
        rows = np.stack([held, both - held])
        scaled: Floats = np.stack([inside, rest]) + total / ((m - 1) * (m - 2)) - 2 * rows / (m - 2)
        return scaled / (m * (m - 3))


def group_test(
    layers: tuple[Sequence[Layer], Sequence[Layer]],
    rows: Rows,
    member: NDArray[np.bool_],
    strata: NDArray[np.intp],
    permutations: int,
    rng: np.random.Generator,
) -> GroupTest:
    """Test whether two models agree in a group as they do in the rest.

    Parameters
    ----------
    layers
        Of the two models, on the same N samples, one sample per patient.
    rows
        The n samples that are looked at; every layer's n × n matrix is made once.
    member, strata
        ``(n,)``: which of them are in the group, and the label of each. Membership is permuted
        among samples of one label, so that a group with other prevalence is not taken for one
        that is represented differently.
    permutations
        How many times.

    Notes
    -----
    Differences are standardised by mean and spread over all permutations, the observed one
    included, so the test is exact; the largest over pairs gives corrected p-values (Westfall &
    Young 1993). An undefined permutation counts as one that is as large.
    """
    difference = permuted_differences(layers, rows, member, strata, permutations, rng)
    centre, spread = np.nanmean(difference, axis=0), np.nanstd(difference, axis=0)
    size = np.abs(difference - centre) / np.where(spread > 0, spread, 1)
    largest = np.where(np.isnan(size), np.inf, size).reshape(len(size), -1).max(axis=1)
    as_large = largest[1:, None] >= size[0].ravel() * (1 - 1e-9)
    adjusted = (1 + as_large.sum(axis=0)) / (1 + permutations)
    adjusted[np.isnan(size[0]).ravel()] = np.nan
    p = (1 + np.count_nonzero(largest[1:] >= largest[0] * (1 - 1e-9))) / (1 + permutations)
    return GroupTest(difference[0], p, adjusted.reshape(difference[0].shape))


def permuted_differences(
    layers: tuple[Sequence[Layer], Sequence[Layer]],
    rows: Rows,
    member: NDArray[np.bool_],
    strata: NDArray[np.intp],
    permutations: int,
    rng: np.random.Generator,
) -> Floats:
    """Return CKA in a group less CKA in the rest, ``(1 + P, p, q)``: as it is, then permuted.

    The parameters are those of `group_test`.
    """
    subsets = _Subsets(_permuted(member, strata, permutations, rng).astype(_dtype(layers)))
    inside, rest = _similarities(layers, rows, subsets)  # (1 + P, p, q) each
    difference: Floats = inside - rest
    return difference


def _similarities(
    layers: tuple[Sequence[Layer], Sequence[Layer]], rows: Rows, subsets: _Subsets
) -> tuple[Floats, Floats]:
    """Return CKA inside each subset and inside its rest, ``(1 + P, p, q)`` each."""
    first, second = layers
    held = [centred_gram(layer, rows) for layer in first]
    sums = [subsets.row_sums(gram) for gram in held]
    cross: dict[tuple[int, int], Floats] = {}
    own_second = []
    for place, layer in enumerate(second):
        gram = centred_gram(layer, rows)
        row_sums = subsets.row_sums(gram)
        own_second.append(subsets.hsic(gram.entries**2, row_sums, row_sums))
        for other, of_other in enumerate(held):
            product = of_other.entries * gram.entries
            cross[other, place] = subsets.hsic(product, sums[other], row_sums)
    own_first = [
        subsets.hsic(gram.entries**2, own, own) for gram, own in zip(held, sums, strict=True)
    ]
    terms = np.stack([*(cross[pair] for pair in sorted(cross)), *own_first, *own_second], axis=-1)
    inside, rest = alignment(terms, len(first), len(second))
    return inside, rest


def _permuted(
    member: NDArray[np.bool_],
    strata: NDArray[np.intp],
    permutations: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Return the members as column 0, and permuted inside each stratum, ``(n, 1 + P)``."""
    columns = np.repeat(member[:, None], 1 + permutations, axis=1)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        columns[members, 1:] = rng.permuted(columns[members, 1:], axis=0)
    return columns


def _columns(first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
    """Return the inner product of each two columns."""
    sums: Floats = np.einsum("np,np->p", first, second, dtype=np.float64)
    return sums


def _dtype(layers: tuple[Sequence[Layer], Sequence[Layer]]) -> np.dtype[np.floating]:
    return np.result_type(*(layer.features.dtype for side in layers for layer in side))
