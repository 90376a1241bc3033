"""Centred kernel alignment (CKA) of two models' layers, with each patient's influence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats
from evenhand.representation.hsic import Terms, hsic, hsic_without, row_terms
from evenhand.representation.jackknife import JackknifeEstimate
from evenhand.representation.layers import Layer, RowIndices


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
