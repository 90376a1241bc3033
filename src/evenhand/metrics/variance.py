"""Values with their sampling variances, patients taken as the independent units."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evenhand.metrics.influence import influences
from evenhand.metrics.registry import Floats, Metric, Weights
from evenhand.metrics.scored import Scored

Moments = Callable[[Weights], tuple[Floats, Floats]]
"""From weights ``(b, P)``, how often each patient is there, to values and variances ``(b,)``."""


def moments(metric: Metric, rows: Scored, classes: Sequence[int]) -> Moments:
    """Prepare rows, and return the function from weights to values and variances.

    The variance is that of the sum of the patients' influences on the value: for sums by the
    delta method, for the AUC DeLong's where each patient has one row, for a mean over ``classes``
    from the mean of the influences in each.
    """
    if rows.binary or metric.classes == "any":
        problems = [rows]
    else:
        problems = [rows.versus_rest(which) for which in classes]
        metric = metric.of_one_class()
    each = [influences(metric, problem) for problem in problems]

    def both(weights: Weights) -> tuple[Floats, Floats]:
        parts = [estimate(weights) for estimate in each]
        value, influence = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
        there = np.maximum(np.count_nonzero(weights, axis=1), 2)
        return value, (weights * influence**2).sum(axis=1) * there / (there - 1)

    return both
