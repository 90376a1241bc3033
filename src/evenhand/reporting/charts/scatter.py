"""Geometry of scatter plots: points of several series on two linear axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.reporting.charts.forest import Axis, axis_over, labelled_ticks
from evenhand.reporting.text.numbers import PLAIN, Scale

Ticks = tuple[tuple[float, str], ...]
"""Position in percent, and text, of each tick."""


@dataclass(frozen=True)
class Point:
    """A named pair of values; the points of a series have the same mark."""

    series: str
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Frame:
    """The title and the explanation of a scatter plot, its axes, and the format of x values."""

    title: str
    says: str
    across: str
    up: str
    x_scale: Scale


@dataclass(frozen=True)
class Dot:
    """A point in percent of width and height, from the top left, and its text."""

    x: float
    y: float
    look: int
    text: str


@dataclass(frozen=True)
class Scatter:
    """A scatter plot with positions; ``series`` are in the order of their looks."""

    frame: Frame
    series: tuple[str, ...]
    dots: tuple[Dot, ...]
    x_ticks: Ticks
    y_ticks: Ticks


def scatter(points: Sequence[Point], frame: Frame) -> Scatter:
    """Lay out points on axes that begin at 0."""
    series = tuple(dict.fromkeys(point.series for point in points))
    x = axis_over([0.0, *(point.x for point in points)], limits=(0.0, float("inf")))
    y = axis_over([0.0, *(point.y for point in points)], limits=(0.0, float("inf")))
    return Scatter(
        frame=frame,
        series=series,
        dots=tuple(_dot(point, series.index(point.series), (x, y), frame) for point in points),
        x_ticks=labelled_ticks(x, frame.x_scale),
        y_ticks=tuple((100 - place, text) for place, text in labelled_ticks(y, PLAIN)),
    )


def _dot(point: Point, look: int, axes: tuple[Axis, Axis], frame: Frame) -> Dot:
    values = f"{frame.x_scale.text(point.x)}, {PLAIN.text(point.y)}"
    text = f"{point.name}, {point.series}: {values}"
    return Dot(axes[0].position(point.x), 100 - axes[1].position(point.y), look, text)
