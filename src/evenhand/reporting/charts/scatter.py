"""Geometry of scatter plots: points of several series on two linear axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.reporting.charts.linear_axis import Axis, PlotFrame, Ticks, axis_over, labelled_ticks
from evenhand.reporting.text.numbers import PLAIN, Scale


@dataclass(frozen=True)
class Point:
    """A named pair of values; the points of a series have the same mark."""

    series: str
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Dot:
    """A point in percent of width and height, from the top left, its style, and its text."""

    x: float
    y: float
    style: int
    text: str


@dataclass(frozen=True)
class Scatter:
    """A scatter plot with positions; ``series`` are in the order of their styles."""

    frame: PlotFrame
    series: tuple[str, ...]
    dots: tuple[Dot, ...]
    x_ticks: Ticks
    y_ticks: Ticks


def scatter(points: Sequence[Point], frame: PlotFrame, x_scale: Scale = PLAIN) -> Scatter:
    """Lay out points on axes that begin at 0; ``x_scale`` is the format of x values."""
    series = tuple(dict.fromkeys(point.series for point in points))
    x = axis_over([0.0, *(point.x for point in points)], limits=(0.0, math.inf))
    y = axis_over([0.0, *(point.y for point in points)], limits=(0.0, math.inf))
    return Scatter(
        frame=frame,
        series=series,
        dots=tuple(_dot(point, series.index(point.series), (x, y), x_scale) for point in points),
        x_ticks=labelled_ticks(x, x_scale),
        y_ticks=labelled_ticks(y, PLAIN, from_top=True),
    )


def _dot(point: Point, style: int, axes: tuple[Axis, Axis], x_scale: Scale) -> Dot:
    values = f"{x_scale.text(point.x)}, {PLAIN.text(point.y)}"
    text = f"{point.name}, {point.series}: {values}"
    return Dot(axes[0].position(point.x), axes[1].from_top(point.y), style, text)
