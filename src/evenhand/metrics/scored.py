"""The arrays that every number is computed from: labels, scores, decisions and patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError
from evenhand.wording import counted

Places = Sequence[NDArray[np.intp]]
"""The positions of the rows of each of G groups."""

SPARSE = 16
"""Where there are more than so many patients for each row, rows are sorted to find theirs."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Samples that a model has scored.

    Attributes
    ----------
    labels
        ``(n,)``, 0 … C-1.
    scores
        ``(n,)`` probability of class 1, or ``(n, C)`` for more than two classes.
    decisions
        ``(n,)``, the class that the model is taken to say, 0 … C-1.
    thresholds
        ``(n,)``, where the decision of each row was cut; None for more than two classes.
    patients
        ``(n,)`` codes into ``members``.
    members
        ``(P,)``, the patients of these rows as columns of the resampling weights.
    classes
        Names of the C classes.
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
        """The one threshold of all these rows, or None where there is none or more than one."""
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
        """Return some rows; patients without any of them are left out of ``members``."""
        present, patients = _numbered(self.patients[rows], len(self.members))
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

    def versus_rest(self, which: int) -> Scored:
        """Return the two-class problem "class ``which`` or another"."""
        of_class = np.stack([1 - self.scores, self.scores], axis=1) if self.binary else self.scores
        return replace(
            self,
            labels=(self.labels == which).astype(np.intp),
            scores=of_class[:, which],
            decisions=(self.decisions == which).astype(np.intp),
            thresholds=None,
            classes=("other", self.classes[which]),
        )


def _is_one_number(thresholds: NDArray[np.float64]) -> bool:
    """Return whether an array is one number that is seen at all places."""
    return thresholds.strides == (0,) and len(thresholds) > 0


def _numbered(patients: NDArray[np.intp], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which of ``count`` patients occur, and the place of each among them."""
    if len(patients) * SPARSE < count:
        present, place = np.unique(patients, return_inverse=True)
        return present, place.astype(np.intp)
    present = np.flatnonzero(np.bincount(patients, minlength=count))
    place = np.zeros(count, dtype=np.intp)
    place[present] = np.arange(len(present))
    return present, place[patients]


def scored(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    patients: Sequence[Any] | NDArray[Any] | None = None,
    threshold: ArrayLike = 0.5,
    classes: Sequence[str] | None = None,
) -> Scored:
    """Check arrays and bring them together.

    Parameters
    ----------
    labels
        ``(n,)`` integers 0 … C-1.
    scores
        ``(n,)`` probability of class 1, or ``(n, C)`` probabilities of each class.
    patients
        ``(n,)`` names or numbers of the patients; without them every row is its own patient.
        They are coded in sorted order, so that numbers do not depend on the order of the rows.
    threshold
        Class 1 is decided at this score and above: one number, or one for each row. More than
        two classes take the class with the highest score instead.
    classes
        Names of the classes; by default their numbers.

    Raises
    ------
    EvenhandError
        Shapes, lengths or classes do not fit together, a score is not a probability, or a label or
        patient is missing or not valid. The message names the first position.

    Examples
    --------
    >>> scored([0, 1], [0.2, 0.9]).decisions
    array([0, 1])
    """
    label, score = _labels(labels), _scores(scores)
    if score.ndim == 2 and score.shape[1] == 2:
        score = score[:, 1]
    n_classes = 2 if score.ndim == 1 else score.shape[1]
    names = tuple(map(str, range(n_classes))) if classes is None else tuple(classes)
    owner = np.arange(len(label)) if patients is None else _owners(patients)
    _check(label, score, owner, names)
    members, codes = np.unique(owner, return_inverse=True)
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


def _labels(labels: ArrayLike) -> NDArray[np.intp]:
    """Return labels as whole numbers; those that are none are refused."""
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
            "Measure several labels one by one; turn one-hot labels into classes by "
            "argmax(axis=1)."
        )
    _refuse(np.isnan(number), values, "label", "is missing; leave samples without a label out")
    broken = number != np.round(number)
    _refuse(broken, values, "label", "is no whole number; labels must be 0 … C-1")
    return number.astype(np.intp)


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores that are probabilities; others are refused."""
    try:
        score = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvenhandError(f"scores must be numbers: {error}.") from error
    if score.ndim not in (1, 2) or (score.ndim == 2 and score.shape[1] < 2):
        raise EvenhandError(
            "scores must have shape (n,), the probability of class 1, or (n, C), that of each of "
            f"C classes; they have {score.shape}."
        )
    _refuse(~_rows(np.isfinite(score), np.all), score, "score", "is not a finite number")
    outside = _rows((score < 0) | (score > 1), np.any)
    how = "is no probability, 0 … 1; turn logits into one by scipy.special.expit, or softmax"
    _refuse(outside, score, "score", how)
    return score


def _owners(patients: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    owner = np.asarray(patients)
    if owner.ndim != 1:
        raise EvenhandError(
            f"patients must have shape (n,), one for each sample; they have {owner.shape}."
        )
    how = "is missing; name the patient of each sample"
    _refuse(np.asarray(pd.isna(owner)), owner, "patient", how)
    return owner


def _thresholds(threshold: ArrayLike, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(threshold, dtype=np.float64)
    if values.shape not in ((), scores.shape) or np.isnan(values).any():
        raise EvenhandError(
            f"threshold must be a number, or one for each of {len(scores)} samples; it is "
            f"{threshold!r}."
        )
    return np.broadcast_to(values, scores.shape)


def _rows(mask: NDArray[np.bool_], over: Callable[..., NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return what holds of all, or of any, of the columns of each row."""
    return over(mask.reshape(len(mask), -1), axis=1) if mask.size else np.zeros(len(mask), np.bool_)


def _refuse(wrong: NDArray[np.bool_], values: NDArray[Any], what: str, how: str) -> None:
    """Refuse values ``(n,)`` or ``(n, C)`` by the first of the rows that are wrong."""
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        more = f" ({counted(int(wrong.sum()), what)} in all)" if wrong.sum() > 1 else ""
        raise EvenhandError(f"{what} {values[first]} at position {first} {how}{more}.")


def _check(
    labels: NDArray[np.intp],
    scores: NDArray[np.float64],
    owners: NDArray[Any],
    classes: tuple[str, ...],
) -> None:
    lengths = {"labels": len(labels), "scores": len(scores), "patients": len(owners)}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{n} {what}" for what, n in lengths.items())
        raise EvenhandError(f"labels, scores and patients must go together; there are {text}.")
    n_classes = 2 if scores.ndim == 1 else scores.shape[1]
    if len(classes) != n_classes:
        raise EvenhandError(
            f"{len(classes)} class names ({', '.join(classes)}) for scores of {n_classes} classes."
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= n_classes):
        raise EvenhandError(
            f"labels run from {labels.min()} to {labels.max()}; the scores have {n_classes} "
            f"classes, so that labels must lie in 0 … {n_classes - 1}."
        )
