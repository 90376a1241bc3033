"""Metrics of discrimination: how well the scores separate positives from negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from evenhand.metrics.forms import Curve, Pairs, curve, pairs
from evenhand.metrics.registry import F, Floats, Form, metric


def _needs_both_classes(form: Form, source: str, **options: Any) -> Callable[[F], F]:
    """Register a metric of scores that needs positives and negatives; 1 is the best value."""
    return metric(
        "higher", ideal=1.0, needs="score", form=form, requires=("positives", "negatives"),
        source=source, **options,
    )  # fmt: skip


@_needs_both_classes(pairs, "Hanley & McNeil, Radiology 1982")
def auc(counts: Pairs) -> Floats:
    """Chance that a random positive scores above a random negative; ties count half.

    Misleads about decisions at a common threshold: groups with equal AUC can have unequal errors.
    It does not measure calibration.
    """
    return counts.share_ordered


@metric(
    "higher",
    ideal=1.0,
    needs="score",
    form=curve,
    requires=("positives",),
    source="Buckley & Voorhees, SIGIR 2000 (average precision, no interpolation)",
)
def auprc(curve: Curve) -> Floats:
    """Area under the precision–recall curve, as average precision.

    Misleads across groups whose prevalence differs: random scores have the prevalence as value.
    """
    flagged = curve.tp + curve.fp
    # A resample may lack the highest scores: nothing is flagged at them, and recall stays 0.
    precision = np.divide(curve.tp, flagged, out=np.zeros_like(flagged), where=flagged > 0)
    gained = np.diff(curve.tp, axis=1, prepend=0.0)
    area: Floats = (gained * precision).sum(axis=1) / curve.tp[:, -1]
    return area


def _gains(tp: Floats, fp: Floats, positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Return recall gain and precision gain of points ``(b, m)``."""
    recall = 1 - positives / negatives * (positives - tp) / tp
    return recall, 1 - positives / negatives * fp / tp


@_needs_both_classes(curve, "Flach & Kull, NeurIPS 2015", share=False)
def auprg(curve: Curve) -> Floats:
    """Area under the precision–recall–gain curve; 0 is chance at every prevalence.

    The curve starts where the recall equals the prevalence, so that the recall gain is 0. Between
    two scores it is a straight line: true and false positives grow in proportion.

    Misleads where few samples are flagged: thresholds with a recall below the prevalence do not
    count, so a higher prevalence leaves out more of the curve.
    """
    tp, fp = (np.concatenate([np.zeros_like(n[:, :1]), n], axis=1) for n in (curve.tp, curve.fp))
    positives, negatives = tp[:, -1:], fp[:, -1:]
    start = positives**2 / (positives + negatives)  # true positives where recall gain is 0
    step = np.diff(tp, axis=1)
    counts = (step > 0) & (tp[:, 1:] > start)
    share = np.divide(start - tp[:, :-1], step, out=np.zeros_like(step), where=counts).clip(0, 1)
    left = fp[:, :-1] + share * np.diff(fp, axis=1)
    x0, y0 = _gains(tp[:, :-1] + share * step, left, positives, negatives)
    x1, y1 = _gains(tp[:, 1:], fp[:, 1:], positives, negatives)
    area: Floats = np.where(counts, (x1 - x0) * (y0 + y1) / 2, 0.0).sum(axis=1)
    return np.where((positives * negatives)[:, 0] > 0, area, np.nan)


BORKAN = "Borkan et al., WWW 2019; the xAUC of Kallus & Zhou, NeurIPS 2019"


@_needs_both_classes(
    pairs, BORKAN, classes="two", view=lambda positive, in_group: positive != in_group
)
def bpsn_auc(counts: Pairs) -> Floats:
    """Chance that a positive of the other groups scores above a negative of this group (BPSN).

    Low where the group's negatives get high scores: false alarms at a common threshold.

    Misleads where the groups' true risks differ: a calibrated model then has unequal values.
    """
    return counts.share_ordered


@_needs_both_classes(
    pairs, BORKAN, classes="two", view=lambda positive, in_group: positive == in_group
)
def bnsp_auc(counts: Pairs) -> Floats:
    """Chance that a positive of this group scores above a negative of the other groups (BNSP).

    Low where the group's positives get low scores: misses at a common threshold.

    Misleads where the groups' true risks differ: a calibrated model then has unequal values.
    """
    return counts.share_ordered


def _highest(rate: Floats, limited: Floats, limit: float) -> Floats:
    """Return the largest rate ``(b,)`` among the thresholds whose other rate is within a limit.

    Parameters
    ----------
    rate, limited
        The rate to maximise, and the rate with a limit, ``(b, m)`` each, at m thresholds.
    limit
        The largest allowed value of ``limited``. A tolerance of 1e-12 keeps 1 − 4/5 within 1 − .8.

    Returns
    -------
    numpy.ndarray
        0 where no threshold is within the limit; NaN where a rate is undefined.
    """
    undefined = np.isnan(rate).any(axis=1) | np.isnan(limited).any(axis=1)
    best: Floats = np.where(limited <= limit + 1e-12, rate, 0.0).max(axis=1, initial=0.0)
    return np.where(undefined, np.nan, best)


OPERATING_POINT = "Park et al., J. Nucl. Med. 2004; the best point that the data reach"


@_needs_both_classes(curve, OPERATING_POINT, at=0.9)
def sensitivity_at_specificity(curve: Curve, at: float) -> Floats:
    """Largest sensitivity of any threshold with a specificity of at least {at} in the group.

    Misleads where one threshold is used for all groups: each group gets its best threshold, chosen
    on the same rows.
    """
    return _highest(curve.sensitivity, curve.false_positive_rate, 1 - at)


@_needs_both_classes(
    curve,
    OPERATING_POINT,
    classes="two",
    view=lambda positive, in_group: in_group | ~positive,
    at=0.1,
)
def sensitivity_at_shared_fpr(curve: Curve, at: float) -> Floats:
    """Sensitivity at a common threshold with a false positive rate of at most {at} over all groups.

    The negatives of all groups determine the threshold; the sensitivity is that of the group.

    Misleads about false alarms: {at} is the rate of all groups together; the rate of a single group
    may be far from it.
    """
    return _highest(curve.sensitivity, curve.false_positive_rate, at)


@_needs_both_classes(curve, OPERATING_POINT, at=0.9)
def specificity_at_sensitivity(curve: Curve, at: float) -> Floats:
    """Largest specificity of any threshold with a sensitivity of at least {at} in the group.

    Misleads where one threshold is used for all groups: each group gets its best threshold, chosen
    on the same rows.
    """
    return _highest(1 - curve.false_positive_rate, 1 - curve.sensitivity, 1 - at)


@metric(
    "higher",
    ideal=None,
    needs="score",
    form=curve,
    classes="two",
    share=False,
    source="Vickers & Elkin, Med. Decis. Making 2006",
    at=0.1,
)
def net_benefit_at(curve: Curve, at: float) -> Floats:
    """Net benefit if samples with a probability of at least {at} are flagged.

    Misleads across groups whose prevalence differs: the net benefit of a group is at most its
    prevalence. It also misleads if scores are not calibrated probabilities.
    """
    flagged = int(np.count_nonzero(curve.score >= at))
    tp, fp = (cell[:, flagged - 1] if flagged else 0.0 for cell in (curve.tp, curve.fp))
    benefit: Floats = (tp - fp * at / (1 - at)) / (curve.tp[:, -1] + curve.fp[:, -1])
    return benefit
