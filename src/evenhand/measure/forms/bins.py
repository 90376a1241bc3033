"""How far labels and probabilities lie apart in bins of the probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evenhand.measure.forms.sums import patient_sums
from evenhand.measure.registry import Floats, Weights
from evenhand.measure.scored import Scored

BINS = 10
"""Bins of equal width from 0 to 1: the same edges for every group."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Sums ``(b, BINS)`` of label − probability, and numbers of rows ``(b,)``."""

    excess: Floats
    count: Floats


def bins(rows: Scored) -> Callable[[Weights], Bins]:
    """Prepare the sums in each bin; a score on an edge belongs to the bin below it."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    member = np.searchsorted(edges, rows.scores)[:, None] == np.arange(BINS)
    excess = member * (rows.labels - rows.scores)[:, None]
    sums = patient_sums(rows, np.concatenate([excess, np.ones((len(rows), 1))], axis=1))

    def count(weights: Weights) -> Bins:
        total = sums(weights)
        return Bins(total[:, :BINS], total[:, BINS])

    return count
