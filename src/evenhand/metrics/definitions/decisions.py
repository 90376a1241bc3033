"""Metrics of decisions: rates from the confusion matrix, and net benefit."""

from __future__ import annotations

import numpy as np

from evenhand.metrics.forms import Cells, Confusion, Mean, cells, confusion, rowwise
from evenhand.metrics.registry import Floats, metric
from evenhand.metrics.scored import Scored

RATES = "Altman & Bland, BMJ 1994"


@metric(
    "higher",
    ideal=1.0,
    needs="decision",
    form=rowwise(lambda rows: rows.decisions == rows.labels),
    classes="any",
    source=RATES,
)
def accuracy(hits: Mean) -> Floats:
    """Share of the samples whose decision equals the label.

    Misleads where cases are rare: a model that flags nobody has a high accuracy.
    """
    return hits.value


@metric(
    "lower",
    ideal=0.0,
    needs="decision",
    form=rowwise(lambda rows: rows.decisions != rows.labels),
    classes="any",
    source=RATES,
)
def error_rate(misses: Mean) -> Floats:
    """Share of the samples whose decision differs from the label.

    Misleads where cases are rare: a model that flags nobody has a low error rate.
    """
    return misses.value


@metric(
    "higher",
    ideal=1.0,
    needs="decision",
    form=cells,
    requires=("positives", "negatives"),
    class_value=lambda n: n.tp / (n.tp + n.fn),
    source="Brodersen et al., ICPR 2010",
)
def balanced_accuracy(n: Cells) -> Floats:
    """Mean of sensitivity and specificity; for more than two classes, mean class sensitivity.

    Misleads where errors are not equally serious: missing a share of the cases counts as much as
    flagging the same share of the others, however rare cases are.
    """
    return (n.tp / (n.tp + n.fn) + n.tn / (n.tn + n.fp)) / 2


@metric(
    "higher",
    ideal=1.0,
    needs="decision",
    form=confusion,
    requires=("positives", "negatives", "flagged", "unflagged"),
    classes="any",
    share=False,
    source="Matthews, Biochim. Biophys. Acta 1975; Gorodkin, Comput. Biol. Chem. 2004",
)
def mcc(table: Confusion) -> Floats:
    """Correlation of labels and decisions (Matthews), −1 to 1; 0 is chance.

    Misleads across groups whose prevalence differs: with the same sensitivity and specificity it
    is lower where cases are rarer.
    """
    by_label, by_decision = table.count.sum(axis=2), table.count.sum(axis=1)
    rows = by_label.sum(axis=1)
    hits = np.trace(table.count, axis1=1, axis2=2)
    covariance = hits * rows - (by_label * by_decision).sum(axis=1)
    label_variance, decision_variance = (
        rows**2 - (totals**2).sum(axis=1) for totals in (by_label, by_decision)
    )
    coefficient: Floats = covariance / np.sqrt(label_variance * decision_variance)
    return coefficient


@metric("higher", ideal=1.0, needs="decision", form=cells, requires=("positives",), source=RATES)
def sensitivity(n: Cells) -> Floats:
    """Share of the positives that are flagged (recall, true positive rate).

    Misleads without the specificity: a model that flags everybody has a sensitivity of 1.
    """
    return n.tp / (n.tp + n.fn)


@metric("higher", ideal=1.0, needs="decision", form=cells, requires=("negatives",), source=RATES)
def specificity(n: Cells) -> Floats:
    """Share of the negatives that are not flagged (true negative rate).

    Misleads without the sensitivity: a model that flags nobody has a specificity of 1.
    """
    return n.tn / (n.tn + n.fp)


@metric("lower", ideal=0.0, needs="decision", form=cells, requires=("positives",), source=RATES)
def false_negative_rate(n: Cells) -> Floats:
    """Share of the positives that are missed (false negative rate).

    Misleads without the false positive rate: a model that flags everybody misses nobody.
    """
    return n.fn / (n.tp + n.fn)


@metric("lower", ideal=0.0, needs="decision", form=cells, requires=("negatives",), source=RATES)
def false_positive_rate(n: Cells) -> Floats:
    """Share of the negatives that are flagged (false positive rate).

    Misleads without the sensitivity: a model that flags nobody raises no false alarm.
    """
    return n.fp / (n.tn + n.fp)


@metric("higher", ideal=1.0, needs="decision", form=cells, requires=("flagged",), source=RATES)
def ppv(n: Cells) -> Floats:
    """Share of the flagged samples that are positive (precision).

    Misleads across groups whose prevalence differs: with the same sensitivity and specificity it is
    lower where cases are rarer.
    """
    return n.tp / (n.tp + n.fp)


@metric("higher", ideal=1.0, needs="decision", form=cells, requires=("unflagged",), source=RATES)
def npv(n: Cells) -> Floats:
    """Share of the unflagged samples that are negative.

    Misleads across groups whose prevalence differs: with the same sensitivity and specificity it is
    higher where cases are rarer.
    """
    return n.tn / (n.tn + n.fn)


@metric("lower", ideal=0.0, needs="decision", form=cells, requires=("flagged",), source=RATES)
def false_discovery_rate(n: Cells) -> Floats:
    """Share of the flagged samples that are negative (false discovery rate).

    Misleads across groups whose prevalence differs: with the same sensitivity and specificity it is
    higher where cases are rarer.
    """
    return n.fp / (n.tp + n.fp)


@metric("lower", ideal=0.0, needs="decision", form=cells, requires=("unflagged",), source=RATES)
def false_omission_rate(n: Cells) -> Floats:
    """Share of the unflagged samples that are positive (false omission rate, FOR).

    Misleads across groups whose prevalence differs: with the same sensitivity and specificity it is
    lower where cases are rarer.
    """
    return n.fn / (n.tn + n.fn)


@metric("none", ideal=None, needs="decision", form=cells, source="Dwork et al., ITCS 2012")
def selection_rate(n: Cells) -> Floats:
    """Share of the samples that are flagged.

    Misleads as a sign of fairness where prevalence differs: a perfect model then flags unequal
    shares of the groups.
    """
    return (n.tp + n.fp) / (n.tp + n.fp + n.tn + n.fn)


@metric(
    "higher",
    ideal=1.0,
    needs="decision",
    form=cells,
    requires=("positives",),
    source="van Rijsbergen, Information Retrieval 1979",
)
def f1(n: Cells) -> Floats:
    """Harmonic mean of sensitivity and PPV.

    Misleads across groups whose prevalence differs: with the same sensitivity and specificity it is
    lower where cases are rarer. True negatives do not count.
    """
    return np.where(n.tp + n.fn > 0, 2 * n.tp / (2 * n.tp + n.fp + n.fn), np.nan)


def _benefit(rows: Scored) -> Floats:
    """Return the net benefit ``(n,)`` of each row's decision."""
    if rows.thresholds is None:  # the metric is registered for two classes only
        raise TypeError("net benefit needs thresholds")
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = rows.thresholds / (1 - rows.thresholds)
        benefit: Floats = (rows.decisions == 1) * np.where(rows.labels == 1, 1.0, -odds)
    return benefit


@metric(
    "higher",
    ideal=None,
    needs="decision",
    form=rowwise(_benefit),
    classes="two",
    share=False,
    source="Vickers & Elkin, Med. Decis. Making 2006",
)
def net_benefit(gains: Mean) -> Floats:
    """Net benefit: true positives minus false positives × the threshold's odds, per sample.

    Misleads across groups whose prevalence differs: the net benefit of a group is at most its
    prevalence. It also misleads if the threshold is not the risk from which flagging is worth it.
    """
    return gains.value


@metric(
    "none",
    ideal=None,
    needs="label",
    form=rowwise(lambda rows: rows.labels == 1),
    classes="two",
    source=RATES,
)
def prevalence(positives: Mean) -> Floats:
    """Share of the samples that are positive.

    Misleads where labels are made in different ways: a group that is examined less often has fewer
    cases in the data.
    """
    return positives.value
