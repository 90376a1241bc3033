"""Labels, scores, decisions and patients: the arrays that all numbers are computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError, count_text

Positions = Sequence[NDArray[np.intp]]
"""The positions of the rows of each of G groups, an array for each group."""

SPARSE = 16
"""Patients are numbered by sorting if there are more than this many patients for each row."""

ROUNDING = 0.005
"""Largest rounding error of a probability with two decimals."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Samples that a model has scored.

    Attributes
    ----------
    labels
        ``(n,)``, the classes 0 … C-1.
    scores
        ``(n,)``, the probability of class 1, or ``(n, C)`` for more than two classes.
    decisions
        ``(n,)``, the predicted classes 0 … C-1.
    thresholds
        ``(n,)``, the lowest score for which the decision is class 1; None for more than two
        classes.
    patients
        ``(n,)``, the index of each row's patient in ``members``.
    members
        ``(P,)``, the patients of these rows, as column numbers of the resampling weights.
    classes
        The names of the C classes.
    """

    labels: NDArray[np.intp]
    scores: NDArray[np.float64]
    decisions: NDArray[np.intp]
    thresholds: NDArray[np.float64] | None
    patients: NDArray[np.intp]
    members: NDArray[np.intp]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.classes) == 2

    @property
    def threshold(self) -> float | None:
        """The threshold of all rows; None if there is none, or if rows have different ones."""
        if self.thresholds is None or not len(self):
            return None
        first = self.thresholds[0]
        is_constant = _is_one_number(self.thresholds) or bool((self.thresholds == first).all())
        return float(first) if is_constant else None

    @cached_property
    def positives_first(self) -> NDArray[np.intp]:
        """The rows by rising score; of equal scores, positives before negatives."""
        return np.lexsort((-self.labels, self.scores))

    @cached_property
    def negatives_first(self) -> NDArray[np.intp]:
        """The rows by rising score; of equal scores, negatives before positives."""
        return np.lexsort((self.labels, self.scores))

    def take(self, rows: NDArray[np.intp]) -> Scored:
        """Return the samples at some positions; ``members`` then has only the patients of these."""
        present, patients = _number_patients(self.patients[rows], len(self.members))
        cuts = self.thresholds
        if cuts is not None:
            cuts = np.broadcast_to(cuts[:1], len(rows)) if _is_one_number(cuts) else cuts[rows]
        return replace(
            self,
            labels=self.labels[rows],
            scores=self.scores[rows],
            decisions=self.decisions[rows],
            thresholds=cuts,
            patients=patients,
            members=self.members[present],
        )

    def versus_rest(self, index: int) -> Scored:
        """Return the two-class problem of a class (by its index) against the other classes."""
        by_class = np.stack([1 - self.scores, self.scores], axis=1) if self.binary else self.scores
        return replace(
            self,
            labels=(self.labels == index).astype(np.intp),
            scores=by_class[:, index],
            decisions=(self.decisions == index).astype(np.intp),
            thresholds=None,
            classes=("other", self.classes[index]),
        )


def _is_one_number(thresholds: NDArray[np.float64]) -> bool:
    """Return whether an array is a single number, broadcast to all rows."""
    return thresholds.strides == (0,) and len(thresholds) > 0


def _number_patients(
    patients: NDArray[np.intp], count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which of ``count`` patients occur, and the index ``(n,)`` of each row's patient."""
    if len(patients) * SPARSE < count:
        present, number = np.unique(patients, return_inverse=True)
        return present, number.astype(np.intp)
    present = np.flatnonzero(np.bincount(patients, minlength=count))
    number = np.zeros(count, dtype=np.intp)
    number[present] = np.arange(len(present))
    return present, number[patients]


def as_scored(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    patients: Sequence[Any] | NDArray[Any] | None = None,
    threshold: ArrayLike = 0.5,
    classes: Sequence[str] | None = None,
) -> Scored:
    """Check labels, scores and patients, and return them as `Scored` with decisions.

    Parameters
    ----------
    labels
        ``(n,)``, integers 0 … C-1.
    scores
        ``(n,)``, the probability of class 1, or ``(n, C)``, the probability of each class.
    patients
        ``(n,)``, names or numbers of the patients; by default each row is a patient. They are
        numbered in sorted order, so results do not depend on the order of the rows.
    threshold
        The lowest score for which the decision is class 1: one number, or ``(n,)``. It is not used
        with more than two classes; the decision is then the class with the highest score.
    classes
        Names of the classes; by default their numbers.

    Raises
    ------
    EvenhandError
        If shapes, lengths or classes do not fit together, if a score is not a probability, if the
        probabilities of a row do not add up to 1, or if a label or patient is missing or invalid.
        The message names the first position.

    Examples
    --------
    >>> as_scored([0, 1], [0.2, 0.9]).decisions
    array([0, 1])
    """
    label, score = _checked_labels(labels), _checked_scores(scores)
    if score.ndim == 2 and score.shape[1] == 2:
        score = score[:, 1]
    n_classes = 2 if score.ndim == 1 else score.shape[1]
    names = tuple(map(str, range(n_classes))) if classes is None else tuple(classes)
    row_patients = np.arange(len(label)) if patients is None else _checked_patients(patients)
    _check_together(label, score, row_patients, names)
    members, codes = np.unique(row_patients, return_inverse=True)
    if score.ndim == 2:
        thresholds, decisions = None, score.argmax(axis=1)
    else:
        thresholds = _thresholds(threshold, score)
        decisions = (score >= thresholds).astype(np.intp)
    return Scored(
        labels=label,
        scores=score,
        decisions=decisions,
        thresholds=thresholds,
        patients=codes.astype(np.intp),
        members=np.arange(len(members)),
        classes=names,
    )


def _checked_labels(labels: ArrayLike) -> NDArray[np.intp]:
    """Return labels as whole numbers; refuse other values."""
    try:
        values = np.asarray(labels)
        number = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise EvenhandError(
            f"labels must be whole numbers 0 … C-1, one for each sample: {error}. Number the "
            "classes first."
        ) from error
    if values.ndim != 1:
        raise EvenhandError(
            f"labels must have shape (n,), one class for each sample; they have {values.shape}. "
            "Measure each of several labels separately; turn one-hot labels into classes with "
            "argmax(axis=1)."
        )
    _refuse(np.isnan(number), values, "label", "is missing; leave samples without a label out")
    broken = number != np.round(number)
    _refuse(broken, values, "label", "is not a whole number; labels must be 0 … C-1")
    return number.astype(np.intp)


def _checked_scores(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores as floats; refuse values that are not probabilities."""
    try:
        score = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvenhandError(f"scores must be numbers: {error}.") from error
    if score.ndim not in (1, 2) or (score.ndim == 2 and score.shape[1] < 2):
        raise EvenhandError(
            "scores must have shape (n,), the probability of class 1, or (n, C), that of each of "
            f"C classes; they have {score.shape}."
        )
    _refuse(~_reduce_columns(np.isfinite(score), np.all), score, "score", "is not a finite number")
    outside = _reduce_columns((score < 0) | (score > 1), np.any)
    problem = (
        "is not a probability (0 … 1); turn logits into probabilities with scipy.special.expit or "
        "softmax"
    )
    _refuse(outside, score, "score", problem)
    if score.ndim == 2:
        wrong = abs(score.sum(axis=1) - 1) > ROUNDING * score.shape[1] + 1e-6
        problem = (
            "is not a probability for each class: the numbers do not add up to 1; give the output "
            "of softmax, and measure each of several labels of a sample separately"
        )
        _refuse(wrong, score, "score", problem)
    return score


def _checked_patients(patients: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Return patients as an array; refuse missing ones."""
    values = np.asarray(patients)
    if values.ndim != 1:
        raise EvenhandError(
            f"patients must have shape (n,), one for each sample; they have {values.shape}."
        )
    problem = "is missing; name the patient of each sample"
    _refuse(np.asarray(pd.isna(values)), values, "patient", problem)
    return values


def _thresholds(threshold: ArrayLike, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the threshold of each row; refuse other shapes and missing numbers."""
    values = np.asarray(threshold, dtype=np.float64)
    if values.shape not in ((), scores.shape) or np.isnan(values).any():
        raise EvenhandError(
            f"threshold must be a number, or one for each of {len(scores)} samples; it is "
            f"{threshold!r}."
        )
    return np.broadcast_to(values, scores.shape)


def _reduce_columns(
    mask: NDArray[np.bool_], reduce: Callable[..., NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Return a mask ``(n,)`` or ``(n, C)`` reduced over its columns by ``np.all`` or ``np.any``."""
    if not mask.size:
        return np.zeros(len(mask), np.bool_)
    return reduce(mask.reshape(len(mask), -1), axis=1)


def _refuse(wrong: NDArray[np.bool_], values: NDArray[Any], name: str, problem: str) -> None:
    """Raise an error that names the first wrong row of values ``(n,)`` or ``(n, C)``, if any."""
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        count = f" ({count_text(int(wrong.sum()), name)} in all)" if wrong.sum() > 1 else ""
        raise EvenhandError(f"{name} {values[first]} at position {first} {problem}{count}.")


def _check_together(
    labels: NDArray[np.intp],
    scores: NDArray[np.float64],
    patients: NDArray[Any],
    classes: tuple[str, ...],
) -> None:
    """Check that lengths, classes and labels fit together."""
    lengths = {"labels": len(labels), "scores": len(scores), "patients": len(patients)}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise EvenhandError(
            f"labels, scores and patients must have the same length; there are {text}."
        )
    n_classes = 2 if scores.ndim == 1 else scores.shape[1]
    if len(classes) != n_classes:
        raise EvenhandError(
            f"there are {len(classes)} class names ({', '.join(classes)}) for scores of "
            f"{n_classes} classes; give one name for each class."
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= n_classes):
        raise EvenhandError(
            f"labels run from {labels.min()} to {labels.max()}; the scores have {n_classes} "
            f"classes, so labels must be 0 … {n_classes - 1}."
        )
