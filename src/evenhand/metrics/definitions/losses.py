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

    Misleads across groups whose prevalence differs: without any skill it is lower where cases are
    rarer. A few confident errors can decide it.
    """
    return losses.value


def _squares(rows: Scored) -> Floats:
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
    """Mean squared error of the probability; for more classes summed over the classes.

    Misleads across groups whose prevalence differs: without any skill it is lower where cases are
    rarer.
    """
    return squares.value


@dataclass(frozen=True, eq=False)
class Skill:
    """Sums of the squared errors ``(b,)``, and numbers of rows by label ``(b, C)``."""

    total: Floats
    labels: Floats


def _by_label(rows: Scored) -> list[Floats]:
    labels = [(rows.labels == which).astype(np.float64) for which in range(len(rows.classes))]
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

    1 is perfect, 0 no better than the group's own prevalence, below 0 worse.

    Misleads across groups whose prevalence differs: each group is compared with its own prevalence,
    so the same probabilities have less skill where cases are rare.
    """
    count = skill.labels.sum(axis=1)
    reference = 1 - ((skill.labels / count[:, None]) ** 2).sum(axis=1)
    if skill.labels.shape[1] == 2:  # with two classes, brier counts the error of one probability
        reference = reference / 2
    relative: Floats = 1 - skill.total / count / reference
    return relative
