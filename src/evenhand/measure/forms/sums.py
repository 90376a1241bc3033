"""Sums over the rows of each patient, and from there over each resample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evenhand.measure.registry import Floats, Weights
from evenhand.measure.scored import Scored


def patient_sums(rows: Scored, features: NDArray[np.float64]) -> Callable[[Weights], Floats]:
    """Return the function from weights ``(b, P)`` to the sums ``(b, k)`` of ``(n, k)`` features.

    Features are added up by patient once; a resample is then one row of a matrix product.
    """
    sums = np.empty((len(rows.members), features.shape[1]))
    # Adding up in a fixed order of the values makes the last bit independent of the rows' order.
    for column, values in enumerate(features.T):
        order = np.lexsort((values, rows.patients))
        sums[:, column] = np.bincount(
            rows.patients[order], weights=values[order], minlength=len(rows.members)
        )
    return lambda weights: weights.astype(np.float64) @ sums
