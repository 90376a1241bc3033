"""Centred kernel alignment (CKA) of two models' layers, with each patient's influence.

CKA is a ratio of values of the Hilbert–Schmidt independence criterion (HSIC), computed row by row.
Its unbiased estimator is that of Song et al. (JMLR 2012), which Nguyen et al. (ICLR 2021) use. A
Gram matrix is centred first, as Székely & Rizzo (Ann. Stat. 2014) centre distances: the diagonal is
0 and every row sums to 0. Then HSIC is the inner product of the two matrices, divided by n (n − 3),
and HSIC without one row follows from that row's share of the inner product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats
from evenhand.representation.jackknife import JackknifeEstimate

RowIndices = NDArray[np.intp]

SAMPLED = 1000
"""The largest number of rows for the median distance."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The features of one layer, with a kernel.

    Attributes
    ----------
    features
        ``(N, d)``, one row per sample; Gram matrices have their precision.
    bandwidth
        σ of the RBF kernel exp(−|x − y|² / 2σ²); None stands for the linear kernel.
    """

    features: NDArray[np.floating]
    bandwidth: float | None = None

    @property
    def width(self) -> int:
        """The number of features."""
        return int(self.features.shape[1])

    def centred(self, chosen: RowIndices) -> NDArray[np.floating]:
        """Return the features of some rows minus their mean.

        This keeps more digits, and does not change HSIC: a shift of all features changes a kernel
        only by a sum of terms that depend on one sample each, which centring removes.
        """
        rows = self.features[chosen]
        rows -= rows.mean(axis=0)
        return rows

    def gram(self, chosen: RowIndices) -> NDArray[np.floating]:
        """Return the kernel of all pairs of some rows, ``(n, n)``; the diagonal is not used."""
        rows = self.centred(chosen)
        products: NDArray[np.floating] = rows @ rows.T
        if self.bandwidth is None:
            return products
        squares = np.diagonal(products).copy()
        products *= 2
        products -= squares
        products -= squares[:, None]  # now minus the squared distances
        products /= 2 * self.bandwidth**2
        np.exp(products, out=products)
        return products


def rbf_layer(features: NDArray[np.floating], share: float, rng: np.random.Generator) -> Layer:
    """Return a layer with an RBF kernel; its bandwidth is a share of the median distance of rows.

    The bandwidth comes from all rows, so all groups are compared by the same kernel. If the median
    distance is 0, the bandwidth is 1.
    """
    from scipy.spatial.distance import pdist  # every audit imports this module

    sampled = rng.permutation(len(features))[:SAMPLED]
    median = float(np.median(pdist(features[sampled]))) if len(sampled) > 1 else 0.0
    return Layer(features, share * median if median > 0 else 1.0)


FEWEST = 5
"""Smallest number of rows: the estimator needs four when one row is left out."""

_BLOCK = 128  # rows of a Gram matrix that are centred at a time; as many fit into the cache


class ProductForm(Protocol):
    """A centred Gram matrix, stored as a matrix or as features."""

    def terms(self, other: Self) -> Floats:
        """Return each row's share ``(n,)`` of the inner product of two centred Gram matrices."""


AnyForm = TypeVar("AnyForm", bound=ProductForm)


@dataclass(frozen=True, eq=False)
class GramMatrix:
    """A centred Gram matrix ``(n, n)``."""

    entries: NDArray[np.floating]

    def terms(self, other: Self) -> Floats:
        """Return the row sums of the entries' products."""
        sums: Floats = np.einsum("ij,ij->i", self.entries, other.entries).astype(np.float64)
        return sums


@dataclass(frozen=True, eq=False)
class GramFactors:
    """A centred Gram matrix as features: entry ij, off the diagonal, is ``left[i] @ right[j]``."""

    left: Floats  # (n, d + 2)
    right: Floats  # (n, d + 2)
    diagonal: Floats  # (n,) the diagonal of the product; the matrix has 0 there

    def terms(self, other: Self) -> Floats:
        """Return the row sums of the entries' products, in O(n d²)."""
        inner = self.right.T @ other.right  # (d + 2, d' + 2)
        total: Floats = np.einsum("ij,ij->i", self.left @ inner, other.left)
        return total - self.diagonal * other.diagonal


@dataclass(frozen=True, eq=False)
class Terms:
    """Each row's share of the inner products of two models' layers.

    Attributes
    ----------
    cross
        ``(n, p, q)``: for each layer of the first model with each layer of the second.
    first, second
        ``(n, p)`` and ``(n, q)``: for each layer with itself.
    """

    cross: Floats
    first: Floats
    second: Floats


def row_terms(first: Sequence[Layer], second: Sequence[Layer], rows: RowIndices) -> Terms:
    """Return each row's share of every inner product that CKA is computed from.

    The Gram matrix of each layer, or its features, is computed once. Those of the model with fewer
    layers stay in memory; those of the other model are computed one at a time.
    """
    if len(first) > len(second):
        swapped = row_terms(second, first, rows)
        return Terms(swapped.cross.transpose(0, 2, 1), swapped.second, swapped.first)
    if _cheaper_as_factors(first, second, len(rows)):
        return _row_terms(_factors, first, second, rows)
    return _row_terms(centred_gram, first, second, rows)


def _row_terms(
    form: Callable[[Layer, RowIndices], AnyForm],
    first: Sequence[Layer],
    second: Sequence[Layer],
    rows: RowIndices,
) -> Terms:
    forms = [form(layer, rows) for layer in first]
    cross = np.empty((len(rows), len(first), len(second)))
    second_terms = np.empty((len(rows), len(second)))
    for column, layer in enumerate(second):
        current = form(layer, rows)
        second_terms[:, column] = current.terms(current)
        for row, other in enumerate(forms):
            cross[:, row, column] = other.terms(current)
        del current  # free the memory before the next layer
    return Terms(cross, np.stack([layer.terms(layer) for layer in forms], axis=1), second_terms)


def hsic(terms: Floats) -> Floats:
    """Return the unbiased HSIC ``(…)`` from rows' shares ``(n, …)``."""
    n = len(terms)
    estimate: Floats = terms.sum(axis=0) / (n * (n - 3))
    return estimate


def hsic_without(terms: Floats) -> Floats:
    """Return the unbiased HSIC with each row left out, ``(n, …)``, from the rows' shares.

    Notes
    -----
    Every row sums to 0, and rᵢ is the share of row i. Without row i, the inner product of the
    matrices is smaller by 2 rᵢ, and the inner product of their row sums is rᵢ. The sum of all
    entries of each matrix is still 0.
    """
    n = len(terms)
    remaining = terms.sum(axis=0) - 2 * terms * (1 + 1 / (n - 3))
    estimates: Floats = remaining / ((n - 1) * (n - 4))
    return estimates


def centred_gram(layer: Layer, rows: RowIndices) -> GramMatrix:
    """Return the centred Gram matrix of some rows of a layer."""
    gram = layer.gram(rows)
    np.fill_diagonal(gram, 0)
    shift = _shift(gram.sum(axis=1, dtype=np.float64)).astype(gram.dtype)
    for start in range(0, len(gram), _BLOCK):
        block = gram[start : start + _BLOCK]
        block -= shift[start : start + _BLOCK, None] + shift
    np.fill_diagonal(gram, 0)
    return GramMatrix(gram)


def _factors(layer: Layer, chosen: RowIndices) -> GramFactors:
    """Return the centred Gram matrix of a linear kernel as features."""
    rows = layer.centred(chosen).astype(np.float64)
    squares = np.einsum("ij,ij->i", rows, rows)
    shift = -_shift(rows @ rows.sum(axis=0) - squares)
    ones = np.ones_like(shift)
    return GramFactors(
        np.column_stack([rows, shift, ones]),
        np.column_stack([rows, ones, shift]),
        squares + 2 * shift,
    )


def _shift(sums: Floats) -> Floats:
    """Return the shift of each row and column that centres a matrix, from its row sums ``(n,)``."""
    n = len(sums)
    shift: Floats = (sums - sums.sum() / (2 * (n - 1))) / (n - 2)
    return shift


def _cheaper_as_factors(first: Sequence[Layer], second: Sequence[Layer], n: int) -> bool:
    """Whether products of features cost less than products of n × n Gram matrices."""
    if any(layer.bandwidth is not None for layer in (*first, *second)):
        return False
    widths, other_widths = ([layer.width for layer in layers] for layers in (first, second))
    all_widths = (*widths, *other_widths)
    pairs = sum(widths) * sum(other_widths) + sum(width**2 for width in all_widths)
    return 4 * pairs < n * sum(all_widths)


def batches(members: RowIndices, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Divide rows at random into batches of equal size, ``(B, size)``, without repeats in a batch.

    Every row is in a batch. If the number of rows is no multiple of ``size``, the last batch also
    has some rows of the batch before it.
    """
    order = rng.permutation(members)
    starts = [*range(0, len(order) - size, size), len(order) - size]
    return np.stack([order[start : start + size] for start in starts])


def cka(
    first: Sequence[Layer], second: Sequence[Layer], rows: NDArray[np.intp]
) -> JackknifeEstimate:
    """Return the similarity ``(p, q)`` of each layer of one model with each of another.

    Parameters
    ----------
    first, second
        The layers of the two models, on the same N samples, one sample per patient.
    rows
        Batches of these samples ``(B, n)``, n at least `FEWEST`. HSIC is averaged over the batches
        before the ratio is taken (Nguyen et al., ICLR 2021); no matrix is N × N.

    Returns
    -------
    JackknifeEstimate
        CKA ``(p, q)``; NaN if a layer does not vary. Independent features give 0 on average; values
        slightly outside 0 … 1 are possible.

    Notes
    -----
    CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with the unbiased HSIC (Song et al., JMLR 2012).
    It is invariant to rotation, translation and isotropic scaling of the features. A patient's
    influence is the change of CKA without the patient; it needs no second pass (`hsic_without`).
    """
    everybody = np.unique(rows)
    pairs = len(first) * len(second) + len(first) + len(second)
    mean, change = np.zeros(pairs), np.zeros((len(everybody), pairs))
    for batch in rows:
        terms = _flat(row_terms(first, second, batch))  # (n, pairs)
        full = hsic(terms)
        mean += full / len(rows)
        change[np.searchsorted(everybody, batch)] += (hsic_without(terms) - full) / len(rows)
    values = alignment(np.vstack([mean, mean + change]), len(first), len(second))
    influence = np.zeros((len(first[0].features), *values.shape[1:]))
    influence[everybody] = (values[0] - values[1:]) * np.sqrt(1 - 1 / len(everybody))
    return JackknifeEstimate(values[0], influence)


def alignment(terms: Floats, p: int, q: int) -> Floats:
    """Return CKA ``(…, p, q)`` from HSIC ``(…, p q + p + q)``; NaN for a denominator of 0.

    The last axis has the p q pairs of layers of both models, then the p layers of the first model
    with themselves, then the q layers of the second with themselves.
    """
    cross, first, second = np.split(terms, [p * q, p * q + p], axis=-1)
    product = first[..., :, None] * second[..., None, :]
    varies = (first[..., :, None] > 0) & (second[..., None, :] > 0)
    root = np.sqrt(np.where(varies, product, np.nan))
    ratio: Floats = cross.reshape(*terms.shape[:-1], p, q) / root
    return ratio


def _flat(terms: Terms) -> Floats:
    cross = terms.cross.reshape(len(terms.cross), -1)
    return np.concatenate([cross, terms.first, terms.second], axis=1)
