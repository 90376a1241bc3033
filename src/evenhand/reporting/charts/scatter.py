"""Geometry of scatter plots: named points, or the trials of a search, on two linear axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from evenhand.files import finite_or_none
from evenhand.metrics import Target
from evenhand.reporting.charts.linear_axis import Axis, PlotFrame, Ticks, axis_over, labelled_ticks
from evenhand.reporting.text.vocabulary import PLAIN, Scale, plain


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


@dataclass(frozen=True)
class TrialDot:
    """A trial; its position is in percent of width and height, from the top left."""

    number: int
    x: float
    y: float
    values: str
    front: bool
    chosen: bool


@dataclass(frozen=True)
class Tradeoff:
    """The plot of two targets of a study; up and to the right is better."""

    x_label: str
    y_label: str
    dots: tuple[TrialDot, ...]
    x_ticks: Ticks
    y_ticks: Ticks


def is_complete(row: Mapping[Any, Any], target: str) -> bool:
    """Return whether a trial was trained to its end and has a value."""
    return row["state"] == "complete" and finite_or_none(row[target]) is not None


def tradeoffs(
    records: Sequence[Mapping[Any, Any]], targets: Sequence[Target], chosen: int | None
) -> tuple[Tradeoff, ...]:
    """Lay out each pair of targets over the trials that were trained to their end."""
    done = [row for row in records if all(is_complete(row, target.name) for target in targets)]
    if not done:
        return ()
    return tuple(_tradeoff(done, pair, chosen) for pair in combinations(targets, 2))


def _tradeoff(
    done: Sequence[Mapping[Any, Any]], pair: tuple[Target, Target], chosen: int | None
) -> Tradeoff:
    x, y = (_axis(done, target) for target in pair)
    dots = [
        TrialDot(
            number=int(row["number"]),
            x=x.position(row[pair[0].name]),
            y=y.from_top(row[pair[1].name]),
            values=", ".join(f"{target.label} {plain(row[target.name])}" for target in pair),
            front=bool(row.get("pareto", False)),
            chosen=row["number"] == chosen,
        )
        for row in done
    ]
    return Tradeoff(
        x_label=pair[0].label,
        y_label=pair[1].label,
        dots=tuple(sorted(dots, key=lambda dot: (dot.chosen, dot.front))),
        x_ticks=labelled_ticks(x, PLAIN),
        y_ticks=labelled_ticks(y, PLAIN, from_top=True),
    )


def _axis(done: Sequence[Mapping[Any, Any]], target: Target) -> Axis:
    """Return the axis of a target; better values are farther from its beginning."""
    axis = axis_over([row[target.name] for row in done])
    return axis if target.maximise else replace(axis, low=axis.high, high=axis.low)
