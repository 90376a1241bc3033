"""Pairs of a positive and a negative row, and how many of them the score puts in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored


@dataclass(frozen=True, eq=False)
class Pairs:
    """Weighted numbers ``(b,)``: pairs in order (ties count half), positives, negatives."""

    ordered: Floats
    positives: Floats
    negatives: Floats


def pairs(rows: Scored) -> Callable[[Weights], Pairs]:
    """Prepare the Mann–Whitney count.

    The scores are sorted once. A resample then is a cumulative sum over the weights of the
    negatives, read off at the place of each positive: below it, and below or tied with it.
    """
    order = np.lexsort((rows.patients, rows.scores))
    positive = rows.labels[order] == 1
    score, patient = rows.scores[order], rows.patients[order]
    negatives = score[~positive]
    below = np.searchsorted(negatives, score[positive], side="left")
    up_to = np.searchsorted(negatives, score[positive], side="right")
    tied = not np.array_equal(below, up_to)

    def count(weights: Weights) -> Pairs:
        up = weights.take(patient[positive], axis=1)
        down = _running_total(weights.take(patient[~positive], axis=1))
        ordered = _product_sum(up, down.take(below, axis=1))
        if tied:
            ordered = (ordered + _product_sum(up, down.take(up_to, axis=1))) / 2
        return Pairs(ordered, up.sum(axis=1, dtype=np.float64), down[:, -1].astype(np.float64))

    return count


def _running_total(weights: Weights) -> NDArray[np.signedinteger[Any]]:
    """Return ``(b, m + 1)`` sums of the first 0 … m columns."""
    largest = np.iinfo(weights.dtype).max * weights.shape[1]
    kind = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
    total = np.zeros((len(weights), weights.shape[1] + 1), dtype=kind)
    np.cumsum(weights, axis=1, out=total[:, 1:])
    return total


def _product_sum(left: Weights, right: NDArray[np.signedinteger[Any]]) -> Floats:
    """Return the row-wise sums ``(b,)`` of products; whole numbers below 2**53, so exact."""
    product: Floats = np.einsum("ij,ij->i", left, right, dtype=np.int64, casting="safe").astype(
        np.float64
    )
    return product
