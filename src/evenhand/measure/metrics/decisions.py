"""Metrics of decisions: rates from the confusion matrix."""

from __future__ import annotations

from evenhand.measure.forms import Cells, Mean, cells, rowwise
from evenhand.measure.registry import Floats, metric

RATES = "Altman & Bland, BMJ 1994"


@metric(
    "higher",
    ideal=1.0,
    needs="decision",
    form=rowwise(lambda rows: (rows.decisions == rows.labels).astype(float)),
    classes="any",
    source=RATES,
)
def accuracy(hits: Mean) -> Floats:
    """Share of the samples that are decided as labelled."""
    return hits.value


@metric("higher", ideal=1.0, needs="decision", form=cells, requires=("positives",), source=RATES)
def sensitivity(n: Cells) -> Floats:
    """Share of the positives that are flagged (recall, true positive rate)."""
    return n.tp / (n.tp + n.fn)


@metric("higher", ideal=1.0, needs="decision", form=cells, requires=("negatives",), source=RATES)
def specificity(n: Cells) -> Floats:
    """Share of the negatives that are not flagged (true negative rate)."""
    return n.tn / (n.tn + n.fp)
