"""The four cells of the confusion matrix of two classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evenhand.measure.forms.sums import patient_sums
from evenhand.measure.registry import Floats, Weights
from evenhand.measure.scored import Scored


@dataclass(frozen=True, eq=False)
class Cells:
    """Numbers ``(b,)`` of true and false positives and negatives."""

    tn: Floats
    fp: Floats
    fn: Floats
    tp: Floats


def cells(rows: Scored) -> Callable[[Weights], Cells]:
    """Prepare the counts of the four cells."""
    where = 2 * rows.labels + rows.decisions
    sums = patient_sums(rows, where[:, None] == np.arange(4))
    return lambda weights: Cells(*sums(weights).T)
