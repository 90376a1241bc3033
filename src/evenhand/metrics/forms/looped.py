"""Any function of labels and scores, called once for each resample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored

Repeated = Callable[[Callable[[NDArray[np.intp], Floats, NDArray[np.intp]], float]], Floats]
"""From a function of labels, scores and decisions to its values ``(b,)``."""


def looped(rows: Scored) -> Callable[[Weights], Repeated]:
    """Prepare the loop: a row that is drawn k times comes k times."""

    def over(weights: Weights) -> Repeated:
        def call(
            function: Callable[[NDArray[np.intp], Floats, NDArray[np.intp]], float],
        ) -> Floats:
            values = np.full(len(weights), np.nan)
            for number, drawn in enumerate(weights):
                drawn_rows = np.repeat(np.arange(len(rows)), drawn[rows.patients])
                if len(drawn_rows):
                    values[number] = function(
                        rows.labels[drawn_rows], rows.scores[drawn_rows], rows.decisions[drawn_rows]
                    )
            return values

        return call

    return over
