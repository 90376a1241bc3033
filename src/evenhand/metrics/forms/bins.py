"""Distances of labels and probabilities in bins of the probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evenhand.metrics.forms.additive import Additive
from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored

BINS = 10
"""Number of bins of equal width from 0 to 1, the same for every group."""


@dataclass(frozen=True, eq=False)
class BinSums:
    """Sums ``(b, BINS)`` of label − probability, and numbers of rows ``(b,)``."""

    excess: Floats
    count: Floats


@dataclass(frozen=True, eq=False)
class BinPairs:
    """Sums over the rows, and over the pairs of rows of two patients, in each bin.

    Attributes
    ----------
    count
        ``(b, BINS)``, the number of rows.
    product
        ``(b, BINS)``, the sum over pairs of the product of their label − probability.
    pairs
        ``(b, BINS)``, the number of pairs.
    """

    count: Floats
    product: Floats
    pairs: Floats


def _members(rows: Scored) -> list[Floats]:
    """Return a column of 0 and 1 for each bin; a score on an edge belongs to the lower bin."""
    member = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], rows.scores)
    return [(member == index).astype(np.float64) for index in range(BINS)]


def _excess(rows: Scored) -> list[Floats]:
    """Return a column of label − probability for each bin."""
    return [member * (rows.labels - rows.scores) for member in _members(rows)]


bins = Additive(
    features=lambda rows: [*_excess(rows), np.ones(len(rows), dtype=np.bool_)],
    summary=lambda sums: BinSums(sums[:, :BINS], sums[:, BINS]),
    smooth=False,
)
"""The form of the metrics that are computed from binned probabilities."""

_sums = Additive(features=lambda rows: [*_excess(rows), *_members(rows)], summary=lambda sums: sums)


def bin_pairs(rows: Scored) -> Callable[[Weights], BinPairs]:
    """Return the function that sums over pairs of rows of two patients, for weights ``(b, P)``.

    The sum over pairs is the square of the sum over all rows, less the square of each patient's
    sum. A patient who is drawn twice counts as one patient with twice the rows.
    """
    by_patient = _sums.by_patient(rows)
    squares = by_patient**2

    def count(weights: Weights) -> BinPairs:
        drawn = weights.astype(np.float64)
        total = drawn @ by_patient
        pairs = total**2 - drawn**2 @ squares
        return BinPairs(total[:, BINS:], pairs[:, :BINS], pairs[:, BINS:])

    return count
