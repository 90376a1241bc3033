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
        From rows to the k columns ``(n,)`` that are added up.
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
        return np.stack([_sums(rows, feature) for feature in self.features(rows)], axis=1)


def _sums(rows: Scored, feature: NDArray[Any]) -> Floats:
    patients = rows.patients
    if np.issubdtype(feature.dtype, np.floating):
        # Added up in the order of the values, the last bit does not depend on that of the rows.
        order = np.lexsort((feature, patients))
        patients, feature = patients[order], feature[order]
    sums = np.bincount(patients, weights=feature, minlength=len(rows.members))
    return sums.astype(np.float64, copy=False)
