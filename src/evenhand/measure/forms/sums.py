"""Sums over the rows of each patient, and from there over each resample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.measure.registry import Floats, Weights
from evenhand.measure.scored import Scored


def patient_sums(rows: Scored, features: NDArray[Any]) -> Callable[[Weights], Floats]:
    """Return the function from weights ``(b, P)`` to the sums ``(b, k)`` of ``(n, k)`` features.

    Features are added up by patient once; a resample is then one row of a matrix product.
    """
    sums = by_patient(rows, features)
    return lambda weights: weights.astype(np.float64) @ sums


def by_patient(rows: Scored, features: NDArray[Any]) -> Floats:
    """Return the sums ``(P, k)`` of ``(n, k)`` features over the rows of each patient."""
    sums = np.empty((len(rows.members), features.shape[1]))
    for column, values in enumerate(features.T):
        patients = rows.patients
        if np.issubdtype(features.dtype, np.floating):
            # Added up in the order of the values, the last bit does not depend on that of the rows.
            order = np.lexsort((values, patients))
            patients, values = patients[order], values[order]
        sums[:, column] = np.bincount(patients, weights=values, minlength=len(rows.members))
    return sums
