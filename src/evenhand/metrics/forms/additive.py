"""Summaries that are sums over rows: of a resample they are one matrix product."""

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
    """A form whose summary is made from sums over the rows.

    Attributes
    ----------
    features
        From rows to the k columns ``(n,)`` that are added up. What a row has does not depend on
        the other rows: those of many groups are made at once.
    summary
        From sums ``(b, k)`` to the summary.
    smooth
        Whether the metrics of this form have a gradient everywhere, as the delta method asks.
    """

    features: Callable[[Scored], Sequence[NDArray[Any]]]
    summary: Callable[[Floats], Any]
    smooth: bool = True

    def __call__(self, rows: Scored) -> Callable[[Weights], Any]:
        """Add up the features of each patient once, and return what sums patients."""
        sums = self.by_patient(rows)
        return lambda weights: self.summary(weights.astype(np.float64) @ sums)

    def by_patient(self, rows: Scored) -> Floats:
        """Return the sums ``(P, k)`` over the rows of each patient."""
        columns = self.features(rows)
        sums = [sums_of(rows.patients, column, len(rows.members)) for column in columns]
        return np.stack(sums, axis=1)


def sums_of(owner: NDArray[np.intp], feature: NDArray[Any], count: int) -> Floats:
    """Add up a feature ``(n,)`` of rows that are numbered ``of`` ``(n,)``, 0 … count - 1."""
    if np.issubdtype(feature.dtype, np.floating):
        # Added up in the order of the values, the last bit does not depend on that of the rows.
        order = np.lexsort((feature, owner))
        owner, feature = owner[order], feature[order]
    sums = np.bincount(owner, weights=feature, minlength=count)
    return sums.astype(np.float64, copy=False)


@dataclass(frozen=True, eq=False)
class Mean:
    """Sums and counts ``(b,)``."""

    total: Floats
    count: Floats

    @property
    def value(self) -> Floats:
        """The mean ``(b,)``; NaN without rows."""
        return self.total / self.count


def rowwise(value: Callable[[Scored], NDArray[Any]]) -> Additive:
    """Make the form whose summary is the mean of ``value(rows)``, values ``(n,)``."""
    return Additive(
        features=lambda rows: [value(rows), np.ones(len(rows), dtype=np.bool_)],
        summary=lambda sums: Mean(*sums.T),
    )


@dataclass(frozen=True, eq=False)
class Cells:
    """Numbers ``(b,)`` of true and false positives and negatives."""

    tn: Floats
    fp: Floats
    fn: Floats
    tp: Floats


cells = Additive(
    features=lambda rows: [2 * rows.labels + rows.decisions == cell for cell in range(4)],
    summary=lambda sums: Cells(*sums.T),
)
"""The form of the metrics that are computed from the four counts."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Numbers ``(b, C, C)`` of rows by label and, last, by decision."""

    count: Floats


def _confusion_cells(rows: Scored) -> list[NDArray[np.bool_]]:
    classes = len(rows.classes)
    cell = rows.labels * classes + rows.decisions
    return [cell == number for number in range(classes**2)]


def _matrix(sums: Floats) -> Confusion:
    classes = round(sums.shape[1] ** 0.5)
    return Confusion(sums.reshape(len(sums), classes, classes))


confusion = Additive(features=_confusion_cells, summary=_matrix)
"""The form of the metrics that are computed from the whole confusion matrix."""
