"""The four cells of the confusion matrix of two classes."""

from __future__ import annotations

from dataclasses import dataclass

from evenhand.metrics.forms.additive import Additive
from evenhand.metrics.registry import Floats


@dataclass(frozen=True, eq=False)
class Cells:
    """Numbers ``(b,)`` of true and false positives and negatives."""

    tn: Floats
    fp: Floats
    fn: Floats
    tp: Floats


cells = Additive(
    features=lambda rows: [2 * rows.labels + rows.decisions == cell for cell in range(4)],
    summary=lambda sums: Cells(*sums.T),
)
"""The form of the metrics that are computed from the four counts."""
