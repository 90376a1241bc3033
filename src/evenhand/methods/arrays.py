"""Check the arrays that methods take: labels, scores, groups, patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from evenhand.errors import EvenhandError, count_text, first_few
from evenhand.tables.arrays import as_array, group_array
from evenhand.tables.attributes import UNKNOWN, read_groups

Floats = NDArray[np.float64]
"""An array of double precision."""

Positive = Annotated[float, Field(gt=0, le=1e6)]
"""A number above 0, and at most one million."""

NotNegative = Annotated[float, Field(ge=0, le=1e6)]
"""A number from 0 to one million."""

Share = Annotated[float, Field(gt=0, lt=1)]
"""A number between 0 and 1."""

Count = Annotated[int, Field(ge=1, le=2**31)]
"""A whole number, at least 1."""

Strengths = Annotated[Sequence[Positive], Field(min_length=1)]
"""Numbers above 0, at least one."""

MOST_UNKNOWN = 0.2
"""Largest share of rows whose group may be unknown before a method refuses."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows with their groups and patients.

    Attributes
    ----------
    labels
        ``(n,)``, 0 or 1 for two classes, else 0 … C − 1.
    groups
        ``(n,)`` names of groups; ``"unknown"`` where the group is missing.
    patients
        ``(n,)`` codes of patients, 0 … P − 1.
    """

    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    patients: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def levels(self) -> tuple[str, ...]:
        """The groups in sorted order, without ``"unknown"``."""
        return tuple(level for level in np.unique(self.groups).tolist() if level != UNKNOWN)

    def take(self, positions: NDArray[np.intp] | NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows(self.labels[positions], self.groups[positions], self.patients[positions])


def check_rows(
    labels: ArrayLike, groups: ArrayLike, patients: ArrayLike | None = None, *, classes: int = 2
) -> Rows:
    """Check labels, groups and patients, and return them as one object.

    Parameters
    ----------
    labels
        ``(n,)`` integers 0 … ``classes`` − 1.
    groups
        ``(n,)``, the group of each row; missing values count as ``"unknown"``.
    patients
        ``(n,)``, the patient of each row; by default each row is a patient of its own.
    classes
        Number of classes.

    Raises
    ------
    EvenhandError
        If lengths differ, a label is not a class, only one class occurs, a patient is missing, or
        the group of more than a fifth of the rows is unknown.

    Examples
    --------
    >>> check_rows([0, 1, 1], ["a", "b", "a"]).levels
    ('a', 'b')
    """
    label = _labels(labels, classes)
    group = group_names(groups)
    patient = np.arange(len(label)) if patients is None else _as_given(patients)
    for name, array in (("groups", group), ("patients", patient)):
        if array.shape != label.shape:
            raise EvenhandError(
                f"{len(label)} labels and {name} of shape {array.shape}; give one for each row."
            )
    unknown = float((group == UNKNOWN).mean())
    if unknown > MOST_UNKNOWN:
        raise EvenhandError(
            f"the group of {unknown:.0%} of {count_text(len(label), 'row')} is unknown; the "
            f"method needs it for at least {1 - MOST_UNKNOWN:.0%}. Leave these rows out, or choose "
            "a method that needs no attribute in training."
        )
    return Rows(label, group, _codes(patient))


def _codes(patients: NDArray[Any]) -> NDArray[np.intp]:
    codes = pd.factorize(patients)[0]
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise EvenhandError(f"the patient of row {row} is missing; give one for each row.")
    return codes.astype(np.intp)


def check_features(features: ArrayLike, width: int | None = None) -> NDArray[Any]:
    """Check features ``(n, D)``, where D is ``width`` if given; their data type does not change.

    Raises
    ------
    EvenhandError
        If the shape is wrong, there is no column, or a value is not a finite number.
    """
    table = as_array(features)
    fits = table.dtype.kind in "iufb" and table.ndim == 2
    if not fits or table.shape[1] != (width or table.shape[1]):
        columns = "D" if width is None else str(width)
        raise EvenhandError(
            f"features of shape {table.shape} and type {table.dtype}; give an array (n, {columns}) "
            "of numbers, one row for each sample."
        )
    if not table.shape[1]:
        raise EvenhandError("the features have no column; give an array (n, D) of numbers.")
    if not np.isfinite(table.sum()) and not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise EvenhandError(f"the features of row {row} are not all finite numbers.")
    return table


def check_scores(scores: ArrayLike, count: int | None = None) -> NDArray[np.float64]:
    """Check probabilities of class 1, ``(n,)``, for ``count`` rows.

    Raises
    ------
    EvenhandError
        If the shape is wrong, a value is missing, or a value is outside 0 … 1 (a logit).
    """
    values = as_array(scores)
    if values.shape != (values.shape[:1] if count is None else (count,)):
        rows = "" if count is None else f" for {count_text(count, 'row')}"
        raise EvenhandError(
            f"scores of shape {values.shape}{rows}; give the probability of class 1 for each row."
        )
    if values.dtype.kind not in "iufb" and values.size:
        raise EvenhandError(f"scores are {values.dtype}; give numbers, probabilities of class 1.")
    score = values.astype(np.float64)
    outside = ~((score >= 0) & (score <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise EvenhandError(
            f"the score in row {row} is {score[row]}; scores are probabilities from 0 to 1. Turn "
            "logits into probabilities first: 1 / (1 + exp(-logit))."
        )
    return score


def logit(scores: NDArray[np.float64], edge: float = 1e-6) -> NDArray[np.float64]:
    """Return log-odds of probabilities, which are first clipped to ``edge`` … 1 − ``edge``."""
    inside = scores.clip(edge, 1 - edge)
    odds: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return odds


def lacking_labels(rows: Rows, least: int = 1) -> list[str]:
    """Describe each class with fewer than ``least`` rows in a group, for an error message."""
    problems = []
    for level in rows.levels:
        counts = np.bincount(rows.labels[rows.groups == level], minlength=rows.labels.max() + 1)
        problems += [
            f"{level} has {count_text(int(count), 'row')} of class {label}"
            for label, count in enumerate(counts)
            if count < least
        ]
    return problems


def require_labels(rows: Rows, method: str, least: int = 1) -> None:
    """Refuse groups without enough rows of each class.

    Raises
    ------
    EvenhandError
        If a group lacks a class; the message names the group and the class.
    """
    if problems := lacking_labels(rows, least):
        raise EvenhandError(
            f"{method} needs every class in every group: {first_few(problems)}. Merge the group "
            "with another, leave it out, or choose another method."
        )


def count_classes(labels: ArrayLike) -> int:
    """Return the highest label plus one, at least 2; 2 for values that are no labels."""
    label = as_array(labels)
    are_numbers = label.dtype.kind in "iubf" and label.size and np.isfinite(label).all()
    return max(2, int(label.max()) + 1) if are_numbers else 2


def _labels(labels: ArrayLike, classes: int) -> NDArray[np.int64]:
    label = as_array(labels)
    is_whole = label.dtype.kind in "iub" or (
        label.dtype.kind == "f" and bool((label == np.round(label)).all())
    )
    whole = label.ndim == 1 and len(label) > 0 and is_whole
    if not whole or label.min() < 0 or label.max() >= classes:
        raise EvenhandError(
            f"labels must be integers from 0 to {classes - 1}, one for each row; they have shape "
            f"{label.shape}, type {label.dtype}"
            + (f" and values such as {label.ravel()[:3].tolist()}." if label.size else ".")
        )
    if len(np.unique(label)) < 2:
        raise EvenhandError(f"all {count_text(len(label), 'row')} have the label {int(label[0])}.")
    return label.astype(np.int64)


def group_names(
    groups: ArrayLike, name: str = "groups", others: Iterable[str] = ()
) -> NDArray[np.str_]:
    """Return the names of groups, read as `evenhand audit` reads a column.

    Blanks around a name are cut, 1.0 is "1", and a missing, blank or withheld one is "unknown".

    Parameters
    ----------
    groups
        The group of each row.
    name
        The name of the groups, for messages.
    others
        Groups of other rows, with whose spelling these must agree.

    Raises
    ------
    EvenhandError
        If there are lists, or a group has several spellings.

    Examples
    --------
    >>> group_names([1.0, 2, None, "f ", "NA"]).tolist()
    ['1', '2', 'unknown', 'f', 'unknown']
    """
    raw = group_array(groups) if hasattr(groups, "dtype") else _as_given(groups)
    text = read_groups(raw.ravel(), name, others)
    return np.array(text.fillna(UNKNOWN), dtype=np.str_).reshape(raw.shape)


def _as_given(values: ArrayLike) -> NDArray[Any]:
    """Return an array; lists become objects, as numpy turns None beside strings into text."""
    if hasattr(values, "dtype"):
        return as_array(values)
    if isinstance(values, list | tuple):
        values = [value.tolist() if hasattr(value, "detach") else value for value in values]
    return np.asarray(values, dtype=object)
