"""The unbiased Hilbert–Schmidt independence criterion of many layer pairs, row by row.

A Gram matrix is centred first, as Székely & Rizzo (Ann. Stat. 2014) centre distances: the diagonal
is 0 and every row sums to 0. The estimator of Song et al. (JMLR 2012), which Nguyen et al. (ICLR
2021) take for CKA, is then an inner product of two matrices over n (n − 3), and what it is without
any one row follows from the share that this row has in the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats
from evenhand.representation.layers import Layer, Rows

FEWEST = 5
"""Rows without which the estimator, less one row, is not defined."""

_BLOCK = 128  # rows of a Gram matrix that are centred at a time, so that they stay in the cache


class ProductForm(Protocol):
    """A centred Gram matrix, as itself or as features."""

    def terms(self, other: Self) -> Floats:
        """Return each row's share ``(n,)`` of the inner product of two centred Gram matrices."""


F = TypeVar("F", bound=ProductForm)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A centred Gram matrix ``(n, n)``."""

    entries: NDArray[np.floating]

    def terms(self, other: Self) -> Floats:
        """Return the row sums of the entries' products."""
        sums: Floats = np.einsum("ij,ij->i", self.entries, other.entries).astype(np.float64)
        return sums


@dataclass(frozen=True, eq=False)
class Factors:
    """A centred Gram matrix as features: entry ij, off the diagonal, is ``left[i] @ right[j]``."""

    left: Floats  # (n, d + 2)
    right: Floats  # (n, d + 2)
    diagonal: Floats  # (n,) what the product has on the diagonal, where the matrix has 0

    def terms(self, other: Self) -> Floats:
        """Return the row sums of the entries' products, in O(n d²)."""
        inner = self.right.T @ other.right  # (d + 2, d' + 2)
        whole: Floats = np.einsum("ij,ij->i", self.left @ inner, other.left)
        return whole - self.diagonal * other.diagonal


@dataclass(frozen=True, eq=False)
class Terms:
    """Each row's share of the inner products of two models' layers.

    Attributes
    ----------
    cross
        ``(n, p, q)``: of a layer of the first model and a layer of the second.
    first, second
        ``(n, p)`` and ``(n, q)``: of a layer and itself.
    """

    cross: Floats
    first: Floats
    second: Floats


def row_terms(first: Sequence[Layer], second: Sequence[Layer], rows: Rows) -> Terms:
    """Return each row's share of every inner product that CKA of some rows is made of.

    Every layer's form is made once. The forms of the model with fewer layers are held while those
    of the other pass by, one at a time.
    """
    if len(first) > len(second):
        turned = row_terms(second, first, rows)
        return Terms(turned.cross.transpose(0, 2, 1), turned.second, turned.first)
    if _cheaper_as_factors(first, second, len(rows)):
        return _row_terms(_factors, first, second, rows)
    return _row_terms(centred_gram, first, second, rows)


def _row_terms(
    form: Callable[[Layer, Rows], F], first: Sequence[Layer], second: Sequence[Layer], rows: Rows
) -> Terms:
    held = [form(layer, rows) for layer in first]
    cross = np.empty((len(rows), len(first), len(second)))
    own = np.empty((len(rows), len(second)))
    for place, layer in enumerate(second):
        passing = form(layer, rows)
        own[:, place] = passing.terms(passing)
        for row, other in enumerate(held):
            cross[:, row, place] = other.terms(passing)
        del passing  # before the next is made
    return Terms(cross, np.stack([layer.terms(layer) for layer in held], axis=1), own)


def hsic(terms: Floats) -> Floats:
    """Return the unbiased HSIC ``(…)`` from rows' shares ``(n, …)``."""
    n = len(terms)
    estimate: Floats = terms.sum(axis=0) / (n * (n - 3))
    return estimate


def hsic_without(terms: Floats) -> Floats:
    """Return the unbiased HSIC without each row ``(n, …)``, from rows' shares ``(n, …)``.

    Notes
    -----
    With rows that sum to 0, leaving row i out takes 2 rᵢ from the inner product of the matrices,
    and makes the inner product of their row sums rᵢ; the sums of all entries stay 0.
    """
    n = len(terms)
    left = terms.sum(axis=0) - 2 * terms * (1 + 1 / (n - 3))
    estimates: Floats = left / ((n - 1) * (n - 4))
    return estimates


def centred_gram(layer: Layer, rows: Rows) -> Matrix:
    """Return the centred Gram matrix of some rows of a layer."""
    gram = layer.gram(rows)
    np.fill_diagonal(gram, 0)
    shift = _shift(gram.sum(axis=1, dtype=np.float64)).astype(gram.dtype)
    for start in range(0, len(gram), _BLOCK):
        block = gram[start : start + _BLOCK]
        block -= shift[start : start + _BLOCK, None] + shift
    np.fill_diagonal(gram, 0)
    return Matrix(gram)


def _factors(layer: Layer, chosen: Rows) -> Factors:
    """Return the centred Gram matrix of a linear kernel: features, and one shift per row."""
    rows = layer.centred(chosen).astype(np.float64)
    squares = np.einsum("ij,ij->i", rows, rows)
    shift = -_shift(rows @ rows.sum(axis=0) - squares)
    ones = np.ones_like(shift)
    return Factors(
        np.column_stack([rows, shift, ones]),
        np.column_stack([rows, ones, shift]),
        squares + 2 * shift,
    )


def _shift(sums: Floats) -> Floats:
    """Return what is taken from entry ij for i, and for j again, from the row sums ``(n,)``."""
    n = len(sums)
    shift: Floats = (sums - sums.sum() / (2 * (n - 1))) / (n - 2)
    return shift


def _cheaper_as_factors(first: Sequence[Layer], second: Sequence[Layer], n: int) -> bool:
    """Whether the products of features cost less than n × n matrices; these are symmetric."""
    if any(layer.bandwidth is not None for layer in (*first, *second)):
        return False
    first_widths, two = ([layer.width for layer in layers] for layers in (first, second))
    pairs = sum(first_widths) * sum(two) + sum(width**2 for width in (*first_widths, *two))
    return 4 * pairs < n * sum((*first_widths, *two))
