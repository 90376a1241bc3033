"""Forest plots on matplotlib's axes, with the marks and colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evenhand.reporting.charts.forest import Line, Look, axis_over, labelled

COLORS = {"group": "#0072b2", "worst": "#d55e00", "unknown": "#808a9b"}
"""Of marks and intervals; everybody has the colour of the axes' text, whatever the style."""
MARKS = {"everyone": "D", "worst": "s"}
"""Marks that are no circle."""


def draw_forest(
    lines: Sequence[Line], groups: Mapping[str, Sequence[Line]], look: Look, axes: Any
) -> Any:
    """Draw a forest plot on matplotlib's axes, and return them; values are on the x axis.

    Parameters
    ----------
    lines
        What stands above all groups.
    groups
        The lines of each attribute, by its name.
    look
        How numbers are shown, and the value of the dashed line.
    axes
        Matplotlib's axes.
    """
    rows: list[Line | str] = [*lines]
    for attribute, of_attribute in groups.items():
        rows += [attribute, *of_attribute]
    ink = axes.xaxis.label.get_color()
    if look.reference is not None:
        axes.axvline(look.reference, color=ink, alpha=0.5, linewidth=1, linestyle=(0, (3, 3)))
    for place, row in enumerate(rows):
        if isinstance(row, Line):
            _draw_line(row, place, look, ink, axes)
    _label(rows, look, axes)
    return axes


def _draw_line(line: Line, place: int, look: Look, ink: str, axes: Any) -> None:
    """Draw a value with its interval; of an undefined one, the reason in words."""
    value, low, high = line.estimate.value, line.estimate.low, line.estimate.high
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    if value is None:
        axes.text(1.03, place, "undefined", style="italic", **beside)
        return
    color = ink if line.kind == "everyone" else COLORS[line.kind]
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="round")
    filled = axes.get_facecolor() if line.kind == "unknown" else color
    mark = MARKS.get(line.kind, "o")
    axes.plot(value, place, mark, color=color, markerfacecolor=filled, markersize=6)
    text = [look.scale.text(value), look.scale.interval(low, high)]
    axes.text(1.03, place, "   ".join(filter(None, text)), **beside)


def _label(rows: Sequence[Line | str], look: Look, axes: Any) -> None:
    """Name the rows and the values, and take away what a forest plot does not need."""
    lines = [row for row in rows if isinstance(row, Line)]
    ends = [end for line in lines for end in _ends(line)]
    axis = axis_over([*ends, *([] if look.reference is None else [look.reference])],
                     limits=look.limits)  # fmt: skip
    axes.set_xlim(axis.low, axis.high)
    axes.set_xticks(axis.ticks, [text for _, text in labelled(axis, look.scale)])
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
