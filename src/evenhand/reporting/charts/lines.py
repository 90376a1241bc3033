"""Geometry of line charts: values with intervals at a few positions, a line for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evenhand.reporting.charts.forest import axis_over, labelled_ticks
from evenhand.reporting.charts.scatter import Ticks
from evenhand.reporting.text.numbers import PLAIN

SIDE = 6.0
"""Free room at each side, in percent of the width."""

APART = 1.6
"""Distance between the marks of two series at the same position, in percent of the width."""


@dataclass(frozen=True)
class Reading:
    """A value at a position, with its interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Place:
    """A position on the x axis, in any unit, and its label."""

    position: float
    label: str


@dataclass(frozen=True)
class LineFrame:
    """The title and the explanation of a line chart, and the names of its x axis and y axis."""

    title: str
    says: str
    across: str
    up: str


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
    """One series, laid out."""

    name: str
    look: int
    points: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class LineChart:
    """A line chart, laid out."""

    frame: LineFrame
    lines: tuple[DrawnLine, ...]
    x_ticks: Ticks
    y_ticks: Ticks


def line_chart(
    series: Mapping[str, Sequence[Reading]], places: Sequence[Place], frame: LineFrame
) -> LineChart:
    """Lay out a line for each series, with a reading at each place.

    The marks of several series at the same place stand side by side, so their intervals do not
    overlap.
    """
    readings = [reading for series_readings in series.values() for reading in series_readings]
    ends = [
        end
        for reading in readings
        for end in (reading.value, reading.low, reading.high)
        if end is not None
    ]
    axis = axis_over(ends)
    xs = _positions(places)
    lines = []
    for look, (name, readings_of) in enumerate(series.items()):
        shift = APART * (look - (len(series) - 1) / 2)
        marks = tuple(
            Mark(
                round(x + shift, 2),
                100 - axis.position(reading.value),
                None if reading.low is None else 100 - axis.position(reading.low),
                None if reading.high is None else 100 - axis.position(reading.high),
                _mark_text(name, place, reading),
            )
            for x, place, reading in zip(xs, places, readings_of, strict=True)
            if reading.value is not None
        )
        points = " ".join(f"{mark.x},{mark.y:.2f}" for mark in marks)
        lines.append(DrawnLine(name, look, points, marks))
    return LineChart(
        frame,
        tuple(lines),
        tuple((x, place.label) for x, place in zip(xs, places, strict=True)),
        tuple((100 - height, text) for height, text in labelled_ticks(axis, PLAIN)),
    )


def _positions(places: Sequence[Place]) -> list[float]:
    """Return the positions of places in percent of the width."""
    low, high = min(place.position for place in places), max(place.position for place in places)
    if high == low:
        return [50.0 for _ in places]
    room = 100 - 2 * SIDE
    return [round(SIDE + room * (place.position - low) / (high - low), 2) for place in places]


def _mark_text(name: str, place: Place, reading: Reading) -> str:
    """Return the text of a mark: series, place, value and interval."""
    interval = PLAIN.interval(reading.low, reading.high)
    value = "" if reading.value is None else PLAIN.text(reading.value)
    return f"{name}, {place.label}: {value}" + (f" ({interval})" if interval else "")
