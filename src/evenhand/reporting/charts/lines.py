"""Geometry of line charts: values with intervals at a few positions, a line for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evenhand.reporting.charts.linear_axis import Axis, PlotFrame, Ticks, axis_over, labelled_ticks
from evenhand.reporting.text.vocabulary import PLAIN

MARGIN = 6.0
"""Free space at each side, in percent of the width."""

MARK_DISTANCE = 1.6
"""Distance between the marks of two series at the same position, in percent of the width."""


@dataclass(frozen=True)
class LineValue:
    """A value of a series with its interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class XTick:
    """A position on the x axis, in any unit, and its label."""

    position: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A value and the ends of its interval, in percent from the top left, and their text."""

    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class DrawnLine:
    """One series, laid out; ``style`` is the number of its line style."""

    name: str
    style: int
    points: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class LineChart:
    """A line chart, laid out."""

    frame: PlotFrame
    lines: tuple[DrawnLine, ...]
    x_ticks: Ticks
    y_ticks: Ticks


def line_chart(
    series: Mapping[str, Sequence[LineValue]], ticks: Sequence[XTick], frame: PlotFrame
) -> LineChart:
    """Lay out a line for each series, with a value at each tick.

    The marks of several series at the same tick stand side by side, so their intervals do not
    overlap.
    """
    numbers = (
        number
        for values in series.values()
        for value in values
        for number in (value.value, value.low, value.high)
        if number is not None
    )
    axis = axis_over(numbers)
    xs = _positions(ticks)
    lines = []
    for style, (name, values) in enumerate(series.items()):
        shift = MARK_DISTANCE * (style - (len(series) - 1) / 2)
        marks = tuple(
            Mark(
                round(x + shift, 2),
                axis.from_top(value.value),
                _from_top(axis, value.low),
                _from_top(axis, value.high),
                _mark_text(name, tick, value),
            )
            for x, tick, value in zip(xs, ticks, values, strict=True)
            if value.value is not None
        )
        points = " ".join(f"{mark.x},{mark.y}" for mark in marks)
        lines.append(DrawnLine(name, style, points, marks))
    return LineChart(
        frame,
        tuple(lines),
        tuple((x, tick.label) for x, tick in zip(xs, ticks, strict=True)),
        labelled_ticks(axis, PLAIN, from_top=True),
    )


def _from_top(axis: Axis, value: float | None) -> float | None:
    return None if value is None else axis.from_top(value)


def _positions(ticks: Sequence[XTick]) -> list[float]:
    """Return the positions of ticks in percent of the width."""
    low, high = min(tick.position for tick in ticks), max(tick.position for tick in ticks)
    if high == low:
        return [50.0 for _ in ticks]
    width = 100 - 2 * MARGIN
    return [round(MARGIN + width * (tick.position - low) / (high - low), 2) for tick in ticks]


def _mark_text(name: str, tick: XTick, value: LineValue) -> str:
    """Return the text of a mark: series, tick, value and interval."""
    interval = PLAIN.interval(value.low, value.high)
    number = "" if value.value is None else PLAIN.text(value.value)
    return f"{name}, {tick.label}: {number}" + (f" ({interval})" if interval else "")
