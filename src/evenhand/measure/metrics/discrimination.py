"""Metrics of how well the scores order the samples."""

from __future__ import annotations

import numpy as np

from evenhand.measure.forms import Curve, Pairs, curve, pairs
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


@metric(
    "higher",
    ideal=1.0,
    needs="score",
    form=curve,
    requires=("positives",),
    source="Buckley & Voorhees, SIGIR 2000 (average precision, no interpolation)",
)
def auprc(at: Curve) -> Floats:
    """Area under the precision–recall curve, as average precision."""
    flagged = at.tp + at.fp
    # The highest scores may not be drawn at all: nothing is flagged there, and recall stays 0.
    precision = np.divide(at.tp, flagged, out=np.zeros_like(flagged), where=flagged > 0)
    gained = np.diff(at.tp, axis=1, prepend=0.0)
    area: Floats = (gained * precision).sum(axis=1) / at.tp[:, -1]
    return area


def _highest(reached: Floats, allowed: Floats, limit: float) -> Floats:
    """Return the largest ``reached`` ``(b,)`` where ``allowed`` is at most the limit, or 0.

    Nothing flagged is always allowed. A hair of tolerance keeps 1 − 4/5 within 1 − .8.
    """
    undefined = np.isnan(reached).any(axis=1) | np.isnan(allowed).any(axis=1)
    best: Floats = np.where(allowed <= limit + 1e-12, reached, 0.0).max(axis=1, initial=0.0)
    return np.where(undefined, np.nan, best)


OPERATING_POINT = "Park et al., J. Nucl. Med. 2004; the best point that the data reach"


@metric(
    "higher",
    ideal=1.0,
    needs="score",
    form=curve,
    requires=("positives", "negatives"),
    source=OPERATING_POINT,
    at=0.9,
)
def sensitivity_at_specificity(of: Curve, at: float) -> Floats:
    """Largest sensitivity of any threshold with a specificity of at least {at} in the group."""
    return _highest(of.tp / of.tp[:, -1:], of.fp / of.fp[:, -1:], 1 - at)


@metric(
    "higher",
    ideal=1.0,
    needs="score",
    form=curve,
    requires=("positives", "negatives"),
    source=OPERATING_POINT,
    at=0.9,
)
def specificity_at_sensitivity(of: Curve, at: float) -> Floats:
    """Largest specificity of any threshold with a sensitivity of at least {at} in the group."""
    missed, spared = 1 - of.tp / of.tp[:, -1:], 1 - of.fp / of.fp[:, -1:]
    return _highest(spared, missed, 1 - at)


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
def net_benefit_at(of: Curve, at: float) -> Floats:
    """Net benefit if cases are flagged from a probability of {at} up, whatever the threshold."""
    flagged = int(np.count_nonzero(of.score >= at))
    tp, fp = (cell[:, flagged - 1] if flagged else 0.0 for cell in (of.tp, of.fp))
    benefit: Floats = (tp - fp * at / (1 - at)) / (of.tp[:, -1] + of.fp[:, -1])
    return benefit
