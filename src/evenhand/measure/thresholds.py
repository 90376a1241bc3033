"""Where scores are cut into decisions. A threshold is chosen on validation rows only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEFAULT = 0.5


def youden(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold with the largest sensitivity + specificity − 1.

    Parameters
    ----------
    labels
        ``(n,)``, 0 or 1.
    scores
        ``(n,)``, probability of class 1.

    Returns
    -------
    float
        The score at and above which class 1 is decided; among equals the one that flags fewest.
        .5 where the labels have one class, as the index is then undefined.

    Notes
    -----
    Youden, Cancer 1950.

    Examples
    --------
    >>> youden([0, 0, 1, 1], [0.1, 0.3, 0.25, 0.8])
    0.8
    """
    label, score = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    cuts, flagged_positives, flagged_negatives = _flagged_at(label, score)
    if not flagged_positives[-1:].any() or not flagged_negatives[-1:].any():
        return DEFAULT
    sensitivity = flagged_positives / flagged_positives[-1]
    false_alarms = flagged_negatives / flagged_negatives[-1]
    return float(cuts[np.argmax(sensitivity - false_alarms)])


def _flagged_at(
    labels: NDArray[np.int64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct scores, falling, and the positives and negatives flagged at each."""
    order = np.argsort(-scores, kind="stable")
    score, positive = scores[order], labels[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
    return score[last], np.cumsum(positive)[last], np.cumsum(~positive)[last]
