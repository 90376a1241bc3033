"""The confusion matrix of any number of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.forms.additive import Additive
from evenhand.metrics.registry import Floats
from evenhand.metrics.scored import Scored


@dataclass(frozen=True, eq=False)
class Confusion:
    """Numbers ``(b, C, C)`` of rows by label and, last, by decision."""

    count: Floats


def _cells(rows: Scored) -> list[NDArray[np.bool_]]:
    classes = len(rows.classes)
    cell = rows.labels * classes + rows.decisions
    return [cell == number for number in range(classes**2)]


def _matrix(sums: Floats) -> Confusion:
    classes = round(sums.shape[1] ** 0.5)
    return Confusion(sums.reshape(len(sums), classes, classes))


confusion = Additive(features=_cells, summary=_matrix)
"""The form of the metrics that are computed from the whole confusion matrix."""
