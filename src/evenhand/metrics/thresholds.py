"""Rules that choose the decision threshold, on validation rows only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError, count_text
from evenhand.metrics.groups import Groups
from evenhand.metrics.registry import Floats

DEFAULT = 0.5

ENOUGH = 10
"""Least number of positives, and of negatives, to choose a threshold on."""

Choose = Callable[[NDArray[np.intp], Floats], float]
"""Function of labels and scores of validation rows; returns the threshold."""


@dataclass(frozen=True)
class Policy:
    """A rule that chooses a threshold: the score at and above which class 1 is decided.

    Attributes
    ----------
    name
        Its name on the command line, such as ``"sensitivity=0.9"``.
    phrase
        The rule in words, for the report.
    choose
        The rule; it returns .5 where the labels leave it undefined.
    positives, negatives
        The numbers of positives and negatives that the rows must have.
    """

    name: str
    phrase: str
    choose: Choose
    positives: int = 0
    negatives: int = 0

    @property
    def needs_rows(self) -> bool:
        """Whether it needs validation rows."""
        return self.positives + self.negatives > 0

    def why_too_few(self, labels: ArrayLike) -> str | None:
        """Return why rows with these labels are too few for the rule, in words, or None.

        Examples
        --------
        >>> policy("youden").why_too_few([0] * 30 + [1] * 3)
        '3 positives and 30 negatives, and 10 of each are needed'
        """
        positive = np.asarray(labels) == 1
        positives, negatives = int(positive.sum()), int((~positive).sum())
        if positives >= self.positives and negatives >= self.negatives:
            return None
        present = f"{count_text(positives, 'positive')} and {count_text(negatives, 'negative')}"
        needed = [
            f"{number} {kind}"
            for number, kind in ((self.positives, "positives"), (self.negatives, "negatives"))
            if number
        ]
        least = f"{ENOUGH} of each" if len(needed) == 2 else needed[0]
        return f"{present}, and {least} are needed"

    def threshold_on(self, labels: ArrayLike, scores: ArrayLike) -> float:
        """Return the threshold that the rule chooses; .5 if the rows are too few for it."""
        if self.why_too_few(labels):
            return DEFAULT
        return self.choose(np.asarray(labels), np.asarray(scores, dtype=np.float64))


def youden(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold with the largest sensitivity + specificity − 1.

    Parameters
    ----------
    labels
        ``(n,)``, 0 or 1.
    scores
        ``(n,)``, probability of class 1.

    Returns
    -------
    float
        The threshold; the highest one if several are equally good. It is .5 if the labels have one
        class, as the index is then undefined.

    Notes
    -----
    Youden, Cancer 1950.

    Examples
    --------
    >>> youden([0, 0, 1, 1], [0.1, 0.3, 0.25, 0.8])
    0.8
    """
    curve = _flagged_at(labels, scores)
    if not curve.positives or not curve.negatives:
        return DEFAULT
    return float(curve.score[np.argmax(curve.tp / curve.positives - curve.fp / curve.negatives)])


def best_f1(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold with the largest F1; the highest one if several are equally good.

    Examples
    --------
    >>> best_f1([0, 0, 1, 1], [0.1, 0.3, 0.25, 0.8])
    0.25
    """
    curve = _flagged_at(labels, scores)
    if not curve.positives:
        return DEFAULT
    return float(curve.score[np.argmax(2 * curve.tp / (curve.tp + curve.fp + curve.positives))])


def for_sensitivity(target: float, labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the highest threshold whose sensitivity is at least the target.

    Examples
    --------
    >>> for_sensitivity(0.9, [0, 0, 1, 1], [0.1, 0.3, 0.25, 0.8])
    0.25
    """
    curve = _flagged_at(labels, scores)
    if not curve.positives:
        return DEFAULT
    return float(curve.score[np.argmax(curve.tp >= target * curve.positives - 1e-9)])


def for_specificity(target: float, labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the lowest threshold whose specificity is at least the target.

    If no score of these rows reaches the target, the threshold is just above the highest score, so
    nothing is flagged.

    Examples
    --------
    >>> for_specificity(0.9, [0, 0, 1, 1], [0.1, 0.3, 0.25, 0.8])
    0.8
    """
    curve = _flagged_at(labels, scores)
    if not curve.negatives:
        return DEFAULT
    enough = np.flatnonzero(curve.negatives - curve.fp >= target * curve.negatives - 1e-9)
    return float(curve.score[enough[-1]] if len(enough) else np.nextafter(curve.score[0], math.inf))


def policy(text: str) -> Policy:
    """Return the policy that a text names, as the command line writes it.

    Parameters
    ----------
    text
        A number from 0 to 1, ``youden``, ``f1``, ``sensitivity=TARGET`` or
        ``specificity=TARGET``.

    Raises
    ------
    EvenhandError
        If the text is none of these.

    Examples
    --------
    >>> policy("0.3").choose([0, 1], [0.1, 0.2])
    0.3
    """
    name, _, number = text.partition("=")
    if text == "youden":
        phrase = "Youden's index (the largest sum of sensitivity and specificity)"
        return Policy(text, phrase, youden, ENOUGH, ENOUGH)
    if text == "f1":
        return Policy(text, "the best F1", best_f1, ENOUGH)
    value = _share(number or text)
    if value is not None and not number:
        return Policy(text, f"fixed at {value:g}", lambda *_: value)
    if value is not None and name == "sensitivity":
        phrase = f"a sensitivity of at least {value:g}"
        return Policy(text, phrase, partial(for_sensitivity, value), ENOUGH)
    if value is not None and name == "specificity":
        phrase = f"a specificity of at least {value:g}"
        return Policy(text, phrase, partial(for_specificity, value), 0, ENOUGH)
    raise EvenhandError(
        f"{text!r} is no threshold policy; give a number from 0 to 1, youden, f1, sensitivity=0.9 "
        "or specificity=0.9 (with a target from 0 to 1)."
    )


def thresholds_by_group(
    rule: Policy, labels: ArrayLike, scores: ArrayLike, groups: Groups
) -> tuple[float, dict[str, float]]:
    """Choose a threshold on all validation rows, and one for each group with enough rows.

    Parameters
    ----------
    rule
        Chooses each threshold.
    labels, scores
        ``(n,)``, labels 0 or 1 and probabilities of class 1.
    groups
        The level of each row.

    Returns
    -------
    tuple
        The threshold of all rows, which holds for groups without one; and the thresholds by level.
    """
    label, score = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    by_level = {}
    for level in groups.levels:
        members = groups.rows(level)
        if not rule.why_too_few(label[members]):
            by_level[level] = rule.threshold_on(label[members], score[members])
    return rule.threshold_on(label, score), by_level


@dataclass(frozen=True, eq=False)
class _Flagged:
    """Counts of the samples that are flagged at each threshold.

    Attributes
    ----------
    score
        The distinct scores, from the highest to the lowest.
    tp, fp
        The positives and negatives at and above each score.
    positives, negatives
        The numbers of all positives and negatives.
    """

    score: Floats
    tp: NDArray[np.intp]
    fp: NDArray[np.intp]
    positives: int
    negatives: int


def _flagged_at(labels: ArrayLike, scores: ArrayLike) -> _Flagged:
    """Count the samples that are flagged at each distinct score."""
    label, score = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    score, positive = score[order], label[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
    tp, fp = np.cumsum(positive)[last], np.cumsum(~positive)[last]
    return _Flagged(score[last], tp, fp, int(positive.sum()), int((~positive).sum()))


def _share(text: str) -> float | None:
    """Return a number from 0 to 1, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
