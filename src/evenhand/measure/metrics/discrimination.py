"""Metrics of how well the scores order the samples."""

from __future__ import annotations

from evenhand.measure.forms import Pairs, pairs
from evenhand.measure.registry import Floats, metric


@metric(
    "higher",
    ideal=1.0,
    needs="score",
    form=pairs,
    requires=("positives", "negatives"),
    source="Hanley & McNeil, Radiology 1982",
)
def auc(counts: Pairs) -> Floats:
    """Chance that a random positive scores above a random negative; ties count half."""
    return counts.ordered / (counts.positives * counts.negatives)
