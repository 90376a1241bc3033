"""The arrays that every number is computed from: labels, scores, decisions and patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError


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
        cuts = None if self.thresholds is None else np.unique(self.thresholds)
        return float(cuts[0]) if cuts is not None and len(cuts) == 1 else None

    def take(self, rows: NDArray[np.intp]) -> Scored:
        """Return some rows; patients without any of them are left out of ``members``."""
        present, patients = np.unique(self.patients[rows], return_inverse=True)
        return replace(
            self,
            labels=self.labels[rows],
            scores=self.scores[rows],
            decisions=self.decisions[rows],
            thresholds=None if self.thresholds is None else self.thresholds[rows],
            patients=patients.astype(np.intp),
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
        Lengths or classes do not fit together, or a score is not a finite number.

    Examples
    --------
    >>> scored([0, 1], [0.2, 0.9]).decisions
    array([0, 1])
    """
    label = np.asarray(labels, dtype=np.intp)
    score = np.asarray(scores, dtype=np.float64)
    if score.ndim == 2 and score.shape[1] == 2:
        score = score[:, 1]
    n_classes = 2 if score.ndim == 1 else score.shape[1]
    names = tuple(map(str, range(n_classes))) if classes is None else tuple(classes)
    owner = np.arange(len(label)) if patients is None else np.asarray(patients)
    _check(label, score, owner, names)
    members, codes = np.unique(owner, return_inverse=True)
    if score.ndim == 2:
        thresholds, decisions = None, score.argmax(axis=1)
    else:
        thresholds = np.broadcast_to(np.asarray(threshold, dtype=np.float64), score.shape)
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


def _check(
    labels: NDArray[np.intp],
    scores: NDArray[np.float64],
    owners: NDArray[Any],
    classes: tuple[str, ...],
) -> None:
    lengths = {"labels": len(labels), "scores": len(scores), "patients": len(owners)}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{n} {what}" for what, n in lengths.items())
        raise EvenhandError(f"labels, scores and patients must go together; there are {given}.")
    n_classes = 2 if scores.ndim == 1 else scores.shape[1]
    if len(classes) != n_classes:
        raise EvenhandError(
            f"{len(classes)} class names ({', '.join(classes)}) for scores of {n_classes} classes."
        )
    if not np.isfinite(scores).all():
        rows = np.flatnonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))
        raise EvenhandError(f"score at position {rows[0]} is not a finite number.")
    if len(labels) and (labels.min() < 0 or labels.max() >= n_classes):
        raise EvenhandError(
            f"labels run from {labels.min()} to {labels.max()}; the scores have {n_classes} "
            f"classes, so that labels must lie in 0 … {n_classes - 1}."
        )
