"""Summaries from sums over rows or bins; the sums of all resamples are one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored


@dataclass(frozen=True, eq=False)
class Additive:
    """A form whose summary is computed from sums over the rows.

    Attributes
    ----------
    features
        Function of the rows; returns the k columns ``(n,)`` to add up. The value of a row must not
        depend on other rows, as the rows of many groups are computed together.
    summary
        Function of the sums ``(b, k)``; returns the summary.
    smooth
        Whether the metrics of this form have a gradient everywhere, which the delta method needs.
    """

    features: Callable[[Scored], Sequence[NDArray[Any]]]
    summary: Callable[[Floats], Any]
    smooth: bool = True

    def __call__(self, rows: Scored) -> Callable[[Weights], Any]:
        """Return the function that summarises some rows for weights ``(b, P)`` of patients."""
        sums = self.by_patient(rows)
        return lambda weights: self.summary(weights.astype(np.float64) @ sums)

    def by_patient(self, rows: Scored) -> Floats:
        """Return the sums ``(P, k)`` over the rows of each patient."""
        columns = self.features(rows)
        sums = [sums_of(rows.patients, column, len(rows.members)) for column in columns]
        return np.stack(sums, axis=1)


def sums_of(owner: NDArray[np.intp], feature: NDArray[Any], count: int) -> Floats:
    """Return the sums ``(count,)`` of a feature ``(n,)`` by the owner ``(n,)`` of each row.

    The owners are numbered 0 … count − 1.
    """
    if np.issubdtype(feature.dtype, np.floating):
        # Summation in the order of the values gives the same bits for every order of the rows.
        order = np.lexsort((feature, owner))
        owner, feature = owner[order], feature[order]
    sums = np.bincount(owner, weights=feature, minlength=count)
    return sums.astype(np.float64, copy=False)


@dataclass(frozen=True, eq=False)
class Mean:
    """Sums of values, and numbers of rows, ``(b,)`` each."""

    total: Floats
    count: Floats

    @property
    def value(self) -> Floats:
        """The mean ``(b,)``; NaN without rows."""
        return self.total / self.count


def rowwise(value: Callable[[Scored], NDArray[Any]]) -> Additive:
    """Return the form whose summary is the mean of ``value(rows)``, ``(n,)``."""
    return Additive(
        features=lambda rows: [value(rows), np.ones(len(rows), dtype=np.bool_)],
        summary=lambda sums: Mean(*sums.T),
    )


@dataclass(frozen=True, eq=False)
class Cells:
    """Numbers ``(b,)`` of true and false positives and negatives, for two classes."""

    tn: Floats
    fp: Floats
    fn: Floats
    tp: Floats


cells = Additive(
    features=lambda rows: [2 * rows.labels + rows.decisions == cell for cell in range(4)],
    summary=lambda sums: Cells(*sums.T),
)
"""The form of the metrics that are computed from the confusion matrix of two classes."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Numbers of rows ``(b, C, C)`` by label and decision, for C classes."""

    count: Floats


def _confusion_cells(rows: Scored) -> list[NDArray[np.bool_]]:
    classes = len(rows.classes)
    cell = rows.labels * classes + rows.decisions
    return [cell == number for number in range(classes**2)]


def _matrix(sums: Floats) -> Confusion:
    classes = round(sums.shape[1] ** 0.5)
    return Confusion(sums.reshape(len(sums), classes, classes))


confusion = Additive(features=_confusion_cells, summary=_matrix)
"""The form of the metrics that are computed from the confusion matrix of any number of classes."""


BINS = 10
"""Number of bins of equal width from 0 to 1, the same for every group."""


@dataclass(frozen=True, eq=False)
class BinSums:
    """Sums ``(b, BINS)`` of label − probability, and numbers of rows ``(b,)``."""

    excess: Floats
    count: Floats


@dataclass(frozen=True, eq=False)
class BinPairs:
    """Sums over the rows, and over the pairs of rows of two patients, in each bin.

    Attributes
    ----------
    count
        ``(b, BINS)``, the number of rows.
    product
        ``(b, BINS)``, the sum over pairs of the product of their label − probability.
    pairs
        ``(b, BINS)``, the number of pairs.
    """

    count: Floats
    product: Floats
    pairs: Floats


def _members(rows: Scored) -> list[Floats]:
    """Return a column of 0 and 1 for each bin; a score on an edge belongs to the lower bin."""
    member = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], rows.scores)
    return [(member == index).astype(np.float64) for index in range(BINS)]


def _excess(rows: Scored) -> list[Floats]:
    """Return a column of label − probability for each bin."""
    return [member * (rows.labels - rows.scores) for member in _members(rows)]


bins = Additive(
    features=lambda rows: [*_excess(rows), np.ones(len(rows), dtype=np.bool_)],
    summary=lambda sums: BinSums(sums[:, :BINS], sums[:, BINS]),
    smooth=False,
)
"""The form of the metrics that are computed from binned probabilities."""

_sums = Additive(features=lambda rows: [*_excess(rows), *_members(rows)], summary=lambda sums: sums)


def bin_pairs(rows: Scored) -> Callable[[Weights], BinPairs]:
    """Return the function that sums over pairs of rows of two patients, for weights ``(b, P)``.

    The sum over pairs is the square of the sum over all rows, less the square of each patient's
    sum. A patient who is drawn twice counts as one patient with twice the rows.
    """
    by_patient = _sums.by_patient(rows)
    squares = by_patient**2

    def count(weights: Weights) -> BinPairs:
        drawn = weights.astype(np.float64)
        total = drawn @ by_patient
        pairs = total**2 - drawn**2 @ squares
        return BinPairs(total[:, BINS:], pairs[:, :BINS], pairs[:, BINS:])

    return count
