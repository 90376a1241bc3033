"""Centred kernel alignment of two models' layers, with what each patient does to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats
from evenhand.representation.hsic import Terms, hsic, hsic_without, row_terms
from evenhand.representation.jackknife import Jackknifed
from evenhand.representation.layers import Layer, Rows


def batches(members: Rows, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Deal rows out to batches of one size, ``(B, size)``, no row twice in a batch.

    Every row is dealt out; where the number does not go up, the last batch takes some rows of the
    one before.
    """
    order = rng.permutation(members)
    starts = [*range(0, len(order) - size, size), len(order) - size]
    return np.stack([order[start : start + size] for start in starts])


def cka(first: Sequence[Layer], second: Sequence[Layer], rows: NDArray[np.intp]) -> Jackknifed:
    """Return the similarity ``(p, q)`` of each layer of one model with each of another.

    Parameters
    ----------
    first, second
        The layers of the two models, on the same N samples, one sample per patient.
    rows
        Batches of these samples ``(B, n)``, n at least `FEWEST`. HSIC is averaged over them before
        the ratio is taken (Nguyen et al., ICLR 2021), so that a large N costs no N × N.

    Returns
    -------
    Jackknifed
        NaN where a layer does not vary. Independent features give 0 on average; a value may lie
        a little outside 0 … 1.

    Notes
    -----
    CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with the unbiased HSIC (Song et al., JMLR 2012).
    It does not change when features are rotated, moved or scaled as one. The influence of a
    patient is by leaving it out, which needs no second pass (see `hsic_without`).
    """
    everybody = np.unique(rows)
    pairs = len(first) * len(second) + len(first) + len(second)
    mean, change = np.zeros(pairs), np.zeros((len(everybody), pairs))
    for batch in rows:
        terms = _flat(row_terms(first, second, batch))  # (n, pairs)
        whole = hsic(terms)
        mean += whole / len(rows)
        change[np.searchsorted(everybody, batch)] += (hsic_without(terms) - whole) / len(rows)
    values = alignment(np.vstack([mean, mean + change]), len(first), len(second))
    influence = np.zeros((len(first[0].features), *values.shape[1:]))
    influence[everybody] = (values[0] - values[1:]) * np.sqrt(1 - 1 / len(everybody))
    return Jackknifed(values[0], influence)


def alignment(terms: Floats, p: int, q: int) -> Floats:
    """Return CKA ``(…, p, q)`` from HSIC ``(…, p q + p + q)``, cross before own; NaN over 0."""
    cross, first, second = np.split(terms, [p * q, p * q + p], axis=-1)
    own = first[..., :, None] * second[..., None, :]
    varies = (first[..., :, None] > 0) & (second[..., None, :] > 0)
    root = np.sqrt(np.where(varies, own, np.nan))
    ratio: Floats = cross.reshape(*terms.shape[:-1], p, q) / root
    return ratio


def _flat(terms: Terms) -> Floats:
    cross = terms.cross.reshape(len(terms.cross), -1)
    return np.concatenate([cross, terms.first, terms.second], axis=1)
