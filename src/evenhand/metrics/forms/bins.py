"""How far labels and probabilities lie apart in bins of the probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evenhand.metrics.forms.additive import Additive
from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored

BINS = 10
"""Bins of equal width from 0 to 1: the same edges for every group."""


@dataclass(frozen=True, eq=False)
class BinSums:
    """Sums ``(b, BINS)`` of label − probability, and numbers of rows ``(b,)``."""

    excess: Floats
    count: Floats


@dataclass(frozen=True, eq=False)
class BinPairs:
    """Of each bin, ``(b, BINS)``: numbers of rows, and sums over pairs of rows of two patients.

    ``product`` is the sum of the products of label − probability, ``pairs`` how many there are.
    """

    count: Floats
    product: Floats
    pairs: Floats


def _members(rows: Scored) -> list[Floats]:
    """Return a column for each bin; a score on an edge belongs to the bin below it."""
    member = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], rows.scores)
    return [(member == number).astype(np.float64) for number in range(BINS)]


def _excess(rows: Scored) -> list[Floats]:
    return [member * (rows.labels - rows.scores) for member in _members(rows)]


bins = Additive(
    features=lambda rows: [*_excess(rows), np.ones(len(rows), dtype=np.bool_)],
    summary=lambda sums: BinSums(sums[:, :BINS], sums[:, BINS]),
    smooth=False,
)
"""The form of the metrics that are computed from binned probabilities."""

_sums = Additive(features=lambda rows: [*_excess(rows), *_members(rows)], summary=lambda sums: sums)


def bin_pairs(rows: Scored) -> Callable[[Weights], BinPairs]:
    """Prepare the sums over pairs of rows that belong to two patients.

    They are the square of the sum over all rows, less each patient's own square. A patient who is
    drawn twice is one patient with twice the rows.
    """
    of_patient = _sums.by_patient(rows)
    squares = of_patient**2

    def count(weights: Weights) -> BinPairs:
        drawn = weights.astype(np.float64)
        total = drawn @ of_patient
        pairs = total**2 - drawn**2 @ squares
        return BinPairs(total[:, BINS:], pairs[:, :BINS], pairs[:, BINS:])

    return count
