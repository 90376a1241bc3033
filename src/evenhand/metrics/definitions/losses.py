"""Mean losses of probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evenhand.metrics.forms import Additive, Mean, rowwise
from evenhand.metrics.registry import Floats, metric
from evenhand.metrics.scored import Scored

EPSILON = float(np.finfo(np.float64).eps)


def _surprise(rows: Scored) -> Floats:
    """Return −log of the probability of the true class, clipped as in scikit-learn."""
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
    """Mean of −log of the probability of the true class, in nats.

    Misleads across groups whose prevalence differs: for a model without skill it is lower where
    cases are rarer. A few confident errors can dominate it.
    """
    return losses.value


def _squares(rows: Scored) -> Floats:
    """Return the squared error ``(n,)`` of each row, summed over classes if there are over two."""
    if rows.binary:
        return (rows.scores - rows.labels) ** 2
    one_hot = rows.labels[:, None] == np.arange(len(rows.classes))
    squares: Floats = ((rows.scores - one_hot) ** 2).sum(axis=1)
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
    """Mean squared error of the probability; for more than two classes summed over the classes.

    Misleads across groups whose prevalence differs: for a model without skill it is lower where
    cases are rarer.
    """
    return squares.value


@dataclass(frozen=True, eq=False)
class Skill:
    """Sums of squared errors ``(b,)``, and numbers of rows by label ``(b, C)``."""

    total: Floats
    labels: Floats


def _by_label(rows: Scored) -> list[Floats]:
    """Return the squared error of each row, and a column of 0 and 1 for each class."""
    labels = [(rows.labels == index).astype(np.float64) for index in range(len(rows.classes))]
    return [_squares(rows), *labels]


@metric(
    "higher",
    ideal=1.0,
    needs="score",
    form=Additive(_by_label, lambda sums: Skill(sums[:, 0], sums[:, 1:])),
    requires=("positives", "negatives"),
    classes="any",
    share=False,
    source="Steyerberg et al., Epidemiology 2010 (scaled Brier score)",
)
def brier_skill(skill: Skill) -> Floats:
    """Relative reduction of the Brier score, compared with predicting the prevalence for everybody.

    It is 1 for a perfect model, 0 for a model that is no better than predicting the group's
    prevalence, and below 0 for a worse one.

    Misleads across groups whose prevalence differs: each group is compared with its own prevalence,
    so the same probabilities have less skill where cases are rare.
    """
    count = skill.labels.sum(axis=1)
    reference = 1 - ((skill.labels / count[:, None]) ** 2).sum(axis=1)
    if skill.labels.shape[1] == 2:  # with two classes, brier counts the error of one probability
        reference = reference / 2
    relative: Floats = 1 - skill.total / count / reference
    return relative
