"""The form that calls any function of labels and scores once for each resample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored

Repeated = Callable[[Callable[[NDArray[np.intp], Floats, NDArray[np.intp]], float]], Floats]
"""Function that calls a function of labels, scores and decisions; returns its values ``(b,)``."""


def looped(rows: Scored) -> Callable[[Weights], Repeated]:
    """Return the function that repeats a call for weights ``(b, P)``.

    A row that is drawn k times occurs k times in the arrays of a call.
    """

    def with_weights(weights: Weights) -> Repeated:
        def call(
            function: Callable[[NDArray[np.intp], Floats, NDArray[np.intp]], float],
        ) -> Floats:
            values = np.full(len(weights), np.nan)
            for index, drawn in enumerate(weights):
                drawn_rows = np.repeat(np.arange(len(rows)), drawn[rows.patients])
                if len(drawn_rows):
                    values[index] = function(
                        rows.labels[drawn_rows], rows.scores[drawn_rows], rows.decisions[drawn_rows]
                    )
            return values

        return call

    return with_weights
