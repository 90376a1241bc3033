"""The points of the ROC and precision–recall curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored


@dataclass(frozen=True, eq=False)
class Curve:
    """Numbers of positives and negatives at or above each distinct score.

    Attributes
    ----------
    score
        ``(m,)``, the distinct scores, from the highest to the lowest.
    tp, fp
        ``(b, m)``, the weighted numbers of positives and negatives at or above each score. The
        last column has all samples.
    """

    score: Floats
    tp: Floats
    fp: Floats

    @property
    def sensitivity(self) -> Floats:
        """The share ``(b, m)`` of the positives at or above each score."""
        return self.tp / self.tp[:, -1:]

    @property
    def false_positive_rate(self) -> Floats:
        """The share ``(b, m)`` of the negatives at or above each score."""
        return self.fp / self.fp[:, -1:]


def curve(rows: Scored) -> Callable[[Weights], Curve]:
    """Return the function that counts samples at or above each score, for weights ``(b, P)``."""
    order = np.lexsort((rows.patients, -rows.scores))
    score, patient = rows.scores[order], rows.patients[order]
    positive = rows.labels[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))

    def count(weights: Weights) -> Curve:
        drawn = weights.take(patient, axis=1)
        tp = np.cumsum(drawn * positive, axis=1, dtype=np.float64)[:, last]
        fp = np.cumsum(drawn * ~positive, axis=1, dtype=np.float64)[:, last]
        return Curve(score[last], tp, fp)

    return count
