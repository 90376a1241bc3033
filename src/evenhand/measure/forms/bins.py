"""How far labels and probabilities lie apart in bins of the probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evenhand.measure.forms.additive import Additive
from evenhand.measure.registry import Floats
from evenhand.measure.scored import Scored

BINS = 10
"""Bins of equal width from 0 to 1: the same edges for every group."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Sums ``(b, BINS)`` of label − probability, and numbers of rows ``(b,)``."""

    excess: Floats
    count: Floats


def _excess(rows: Scored) -> list[Floats]:
    """Return a column for each bin; a score on an edge belongs to the bin below it."""
    member = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], rows.scores)
    return [(member == number) * (rows.labels - rows.scores) for number in range(BINS)]


bins = Additive(
    features=lambda rows: [*_excess(rows), np.ones(len(rows), dtype=np.bool_)],
    summary=lambda sums: Bins(sums[:, :BINS], sums[:, BINS]),
    smooth=False,
)
"""The form of the metrics that are computed from binned probabilities."""
