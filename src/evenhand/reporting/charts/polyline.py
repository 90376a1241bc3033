"""Simplification of lines with many points."""

from __future__ import annotations

import numpy as np

from evenhand.metrics.registry import Floats

UNSEEN = 0.08
"""Distance from a line that is too small to be seen, in percent of the picture."""


def polyline(x: Floats, y: Floats) -> str:
    """Return the points of a line as text, without points that do not change its look.

    Parameters
    ----------
    x, y
        ``(n,)``, positions from the top left, in percent of width and height.

    Notes
    -----
    Ramer (1972), Douglas and Peucker (1973): a part of the line is replaced by a straight line if
    none of its points is farther from it than `UNSEEN`; otherwise it is divided at the farthest
    point.

    Examples
    --------
    >>> polyline(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 0.0]))
    '0,0 2,2 3,0'
    """
    chosen = {0, len(x) - 1}
    parts = [(0, len(x) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        distances = _distances(x[first : last + 1], y[first : last + 1])
        middle = first + int(np.argmax(distances))
        if distances.max() > UNSEEN:
            chosen.add(middle)
            parts += [(first, middle), (middle, last)]
    return " ".join(f"{_text(x[point])},{_text(y[point])}" for point in sorted(chosen) if len(x))


def _distances(x: Floats, y: Floats) -> Floats:
    """Return the distance ``(n,)`` of each point from the line from the first to the last point."""
    start = np.array([x[0], y[0]])
    along = np.array([x[-1], y[-1]]) - start
    points = np.stack([x, y], axis=1) - start
    length = float(along @ along)
    share = np.clip(points @ along / length, 0, 1) if length else np.zeros(len(x))
    distances: Floats = np.hypot(*(points - share[:, None] * along).T)
    return distances


def _text(percent: float) -> str:
    return f"{round(float(percent), 1) + 0:g}"  # + 0 turns -0 into 0
