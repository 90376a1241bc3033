"""Mean losses of probabilities."""

from __future__ import annotations

import numpy as np

from evenhand.measure.forms import Mean, rowwise
from evenhand.measure.registry import Floats, metric
from evenhand.measure.scored import Scored

EPSILON = float(np.finfo(np.float64).eps)


def _surprise(rows: Scored) -> Floats:
    """Return −log of the probability given to the label, kept finite as scikit-learn does."""
    if rows.binary:
        probability = np.where(rows.labels == 1, rows.scores, 1 - rows.scores)
    else:
        total = rows.scores.sum(axis=1)
        probability = rows.scores[np.arange(len(rows)), rows.labels] / total
    surprise: Floats = -np.log(np.clip(probability, EPSILON, 1 - EPSILON))
    return surprise


@metric(
    "lower",
    ideal=0.0,
    needs="score",
    form=rowwise(_surprise),
    classes="any",
    share=False,
    source="Good, J. R. Stat. Soc. B 1952",
)
def log_loss(losses: Mean) -> Floats:
    """Mean of −log of the probability given to the label, in nats."""
    return losses.value


def _squares(rows: Scored) -> Floats:
    if rows.binary:
        return (rows.scores - rows.labels) ** 2
    wanted = rows.labels[:, None] == np.arange(len(rows.classes))
    squares: Floats = ((rows.scores - wanted) ** 2).sum(axis=1)
    return squares


@metric(
    "lower",
    ideal=0.0,
    needs="score",
    form=rowwise(_squares),
    classes="any",
    share=False,  # with more than two classes it goes up to 2
    source="Brier, Mon. Weather Rev. 1950",
)
def brier(squares: Mean) -> Floats:
    """Mean squared error of the probability; for more classes summed over the classes."""
    return squares.value
