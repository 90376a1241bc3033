"""Forest plots on matplotlib axes, with the marks and colours of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evenhand.reporting.charts.forest import ForestEntry, ForestFrame
from evenhand.reporting.charts.linear_axis import labelled_ticks

COLORS = {"group": "#0072b2", "worst": "#d55e00", "unknown": "#808a9b"}
"""Colours of marks and intervals by kind of entry; ``everyone`` has that of the axes' text."""
MARKS = {"everyone": "D", "worst": "s"}
"""Marks by kind of entry; other entries have a circle."""


def draw_forest(
    entries: Sequence[ForestEntry],
    groups: Mapping[str, Sequence[ForestEntry]],
    frame: ForestFrame,
    axes: Any,
) -> Any:
    """Draw a forest plot on matplotlib axes, and return the axes; values are on the x axis.

    Parameters
    ----------
    entries
        The entries above all groups.
    groups
        By attribute: the entries of its groups.
    frame
        The title, the format of numbers, and the value of the dashed line.
    axes
        The matplotlib axes.
    """
    rows: list[ForestEntry | str] = [*entries]
    for attribute, attribute_entries in groups.items():
        rows += [attribute, *attribute_entries]
    ink = axes.xaxis.label.get_color()
    if frame.reference is not None:
        axes.axvline(frame.reference, color=ink, alpha=0.5, linewidth=1, linestyle=(0, (3, 3)))
    for place, row in enumerate(rows):
        if isinstance(row, ForestEntry):
            _draw_entry(row, place, frame, ink, axes)
    _label(rows, frame, axes)
    return axes


def _draw_entry(entry: ForestEntry, place: int, frame: ForestFrame, ink: str, axes: Any) -> None:
    """Draw a value with its interval, or the word "undefined"."""
    value, low, high = entry.estimate.value, entry.estimate.low, entry.estimate.high
    at_right = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    if value is None:
        axes.text(1.03, place, "undefined", style="italic", **at_right)
        return
    color = ink if entry.kind == "everyone" else COLORS[entry.kind]
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="round")
    fill = axes.get_facecolor() if entry.kind == "unknown" else color
    mark = MARKS.get(entry.kind, "o")
    axes.plot(value, place, mark, color=color, markerfacecolor=fill, markersize=6)
    text = [frame.scale.text(value), frame.scale.interval(low, high)]
    axes.text(1.03, place, "   ".join(filter(None, text)), **at_right)


def _label(rows: Sequence[ForestEntry | str], frame: ForestFrame, axes: Any) -> None:
    """Label rows, values and title, and remove ticks and spines."""
    axis = frame.axis_over([row for row in rows if isinstance(row, ForestEntry)])
    axes.set_xlim(axis.low, axis.high)
    axes.set_xticks(axis.ticks, [text for _, text in labelled_ticks(axis, frame.scale)])
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if isinstance(row, str) else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(frame.title, loc="left", fontweight="bold")
    axes.tick_params(length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _name(row: ForestEntry | str) -> str:
    if isinstance(row, str):
        return row
    return f"{row.name}\n{row.note}" if row.note else row.name
