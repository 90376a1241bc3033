"""Lines of many points, as short as the eye allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNSEEN = 0.08
"""Distance from a line, in percent of the picture, that nobody sees."""


def polyline(x: Floats, y: Floats) -> str:
    """Return places in percent as the points of a line, without those that change nothing.

    Parameters
    ----------
    x, y
        ``(n,)`` places from the top left, in percent of width and height.

    Notes
    -----
    Ramer (1972), Douglas and Peucker (1973): a stretch is a straight line if none of its points is
    farther from it than `UNSEEN`; else it is cut at the farthest point.

    Examples
    --------
    >>> polyline(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 0.0]))
    '0,0 2,2 3,0'
    """
    kept = {0, len(x) - 1}
    stretches = [(0, len(x) - 1)]
    while stretches:
        first, last = stretches.pop()
        if last - first < 2:
            continue
        far = _distances(x[first : last + 1], y[first : last + 1])
        middle = first + int(np.argmax(far))
        if far.max() > UNSEEN:
            kept.add(middle)
            stretches += [(first, middle), (middle, last)]
    return " ".join(f"{_place(x[row])},{_place(y[row])}" for row in sorted(kept) if len(x))


def _distances(x: Floats, y: Floats) -> Floats:
    """Return how far each point lies from the stretch between the first and the last point."""
    start = np.array([x[0], y[0]])
    along = np.array([x[-1], y[-1]]) - start
    points = np.stack([x, y], axis=1) - start
    length = float(along @ along)
    share = np.clip(points @ along / length, 0, 1) if length else np.zeros(len(x))
    far: Floats = np.hypot(*(points - share[:, None] * along).T)
    return far


def _place(percent: float) -> str:
    return f"{round(float(percent), 1) + 0:g}"  # + 0: no minus before a zero
