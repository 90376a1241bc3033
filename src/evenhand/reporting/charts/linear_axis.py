"""Linear axes of charts, their ticks, titles and labels, and the lines drawn on them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from evenhand.metrics.registry import Floats
from evenhand.reporting.text.vocabulary import Scale, plain

MARGIN = 0.06
"""Share of the range of values that the axis leaves free at each end."""

Ticks = tuple[tuple[float, str], ...]
"""Position in percent, and text, of each tick."""


@dataclass(frozen=True)
class PlotFrame:
    """The title and the caption of a chart, and the names of its axes."""

    title: str
    caption: str
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes
    ----------
    low, high
        The values at its ends.
    ticks
        The values that are labelled.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def position(self, value: float) -> float:
        """Return the position of a value from the low end, in percent from 0 to 100."""
        percent = 100 * (value - self.low) / (self.high - self.low)
        return round(min(max(percent, 0.0), 100.0), 2)

    def from_top(self, value: float) -> float:
        """Return the position of a value from the high end, in percent from 0 to 100."""
        return round(100 - self.position(value), 2)


def axis_over(
    values: Iterable[float],
    *,
    max_ticks: int = 5,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Axis:
    """Return an axis that contains all values, with round ticks within limits.

    Parameters
    ----------
    values
        The values; those that are not finite are ignored.
    max_ticks
        The largest number of ticks.
    limits
        The range of the ticks.

    Examples
    --------
    >>> axis_over([0.61, 0.84]).ticks
    (0.6, 0.7, 0.8)
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    step = _round_step((high - low) / max_ticks)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = (round(k * step, 10) for k in range(first, last + 1))
    return Axis(low, high, tuple(tick for tick in ticks if limits[0] <= tick <= limits[1]))


def labelled_ticks(axis: Axis, scale: Scale, *, from_top: bool = False) -> Ticks:
    """Return position and text of each tick, with as few decimals as needed."""
    position = axis.from_top if from_top else axis.position
    values = [scale.factor * tick for tick in axis.ticks]
    digits = next(d for d in range(12) if all(abs(round(v, d) - v) < 1e-8 for v in values))
    return tuple(
        (position(tick), plain(value, digits))
        for tick, value in zip(axis.ticks, values, strict=True)
    )


def _round_step(raw: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 × 10ᵏ that is at least ``raw``."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))


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
