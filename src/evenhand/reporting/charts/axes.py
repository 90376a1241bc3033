"""Forest plots on matplotlib axes, with the marks and colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evenhand.reporting.charts.forest import Line, Look, axis_over, labelled_ticks

COLORS = {"group": "#0072b2", "worst": "#d55e00", "unknown": "#808a9b"}
"""Colours of marks and intervals by kind of line; ``everyone`` has that of the axes' text."""
MARKS = {"everyone": "D", "worst": "s"}
"""Marks by kind of line; other lines have a circle."""


def draw_forest(
    lines: Sequence[Line], groups: Mapping[str, Sequence[Line]], look: Look, axes: Any
) -> Any:
    """Draw a forest plot on matplotlib axes, and return the axes; values are on the x axis.

    Parameters
    ----------
    lines
        The lines above all groups.
    groups
        By attribute: the lines of its groups.
    look
        The title, the format of numbers, and the value of the dashed line.
    axes
        The matplotlib axes.
    """
    rows: list[Line | str] = [*lines]
    for attribute, attribute_lines in groups.items():
        rows += [attribute, *attribute_lines]
    ink = axes.xaxis.label.get_color()
    if look.reference is not None:
        axes.axvline(look.reference, color=ink, alpha=0.5, linewidth=1, linestyle=(0, (3, 3)))
    for place, row in enumerate(rows):
        if isinstance(row, Line):
            _draw_line(row, place, look, ink, axes)
    _label(rows, look, axes)
    return axes


def _draw_line(line: Line, place: int, look: Look, ink: str, axes: Any) -> None:
    """Draw a value with its interval, or the word "undefined"."""
    value, low, high = line.estimate.value, line.estimate.low, line.estimate.high
    at_right = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    if value is None:
        axes.text(1.03, place, "undefined", style="italic", **at_right)
        return
    color = ink if line.kind == "everyone" else COLORS[line.kind]
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="round")
    fill = axes.get_facecolor() if line.kind == "unknown" else color
    mark = MARKS.get(line.kind, "o")
    axes.plot(value, place, mark, color=color, markerfacecolor=fill, markersize=6)
    text = [look.scale.text(value), look.scale.interval(low, high)]
    axes.text(1.03, place, "   ".join(filter(None, text)), **at_right)


def _label(rows: Sequence[Line | str], look: Look, axes: Any) -> None:
    """Label rows, values and title, and remove ticks and spines."""
    lines = [row for row in rows if isinstance(row, Line)]
    ends = [end for line in lines for end in _ends(line)]
    reference = [] if look.reference is None else [look.reference]
    axis = axis_over([*ends, *reference], limits=look.limits)
    axes.set_xlim(axis.low, axis.high)
    axes.set_xticks(axis.ticks, [text for _, text in labelled_ticks(axis, look.scale)])
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if isinstance(row, str) else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(look.title, loc="left", fontweight="bold")
    axes.tick_params(length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _name(row: Line | str) -> str:
    if isinstance(row, str):
        return row
    return f"{row.name}\n{row.note}" if row.note else row.name


def _ends(line: Line) -> list[float]:
    ends = (line.estimate.value, line.estimate.low, line.estimate.high)
    return [end for end in ends if end is not None and math.isfinite(end)]
