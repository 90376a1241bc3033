"""Forest plots: positions in percent of the picture's width, and drawing on matplotlib axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.files import finite_or_none
from evenhand.reporting.charts.linear_axis import Axis, Ticks, axis_over, labelled_ticks
from evenhand.reporting.estimates import NO_VALUE, Estimate
from evenhand.reporting.text.vocabulary import PLAIN, Scale


@dataclass(frozen=True)
class ForestEntry:
    """The content of a row of a forest plot, before it is laid out (see `ForestRow`)."""

    name: str
    estimate: Estimate
    note: str = ""
    kind: str = "group"
    tag: str = ""
    section: str = ""

    @property
    def ends(self) -> list[float]:
        """The value and the ends of its interval that are defined; none if the value is not."""
        value, low, high = map(
            finite_or_none, (self.estimate.value, self.estimate.low, self.estimate.high)
        )
        return [] if value is None else [end for end in (value, low, high) if end is not None]


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot.

    Attributes
    ----------
    name, note, tag
        The name of the row, a note below it, and a tag beside it.
    value, interval, reason
        The value and its interval as text, or the reason why the value is undefined.
    x, x_low, x_high
        The positions of the value and of the ends of its interval in percent; None where undefined.
    kind
        The kind of mark.
    section
        The heading above the row, if it differs from that of the row before.
    """

    name: str
    note: str
    value: str
    interval: str
    x: float | None
    x_low: float | None
    x_high: float | None
    kind: str
    tag: str
    reason: str
    section: str


@dataclass(frozen=True)
class Forest:
    """A forest plot: rows on one axis, and a reference value as a line through all rows."""

    title: str
    caption: str
    axis: Axis
    rows: tuple[ForestRow, ...]
    ticks: Ticks
    reference: float | None = None
    reference_name: str = ""


@dataclass(frozen=True)
class ForestFrame:
    """The title of a forest plot, and how it shows its numbers.

    Attributes
    ----------
    title, caption
        The heading, and a sentence on the meaning of a value.
    scale
        The format of values.
    reference, reference_name
        A value with a line through all rows, and the name of the line.
    limits
        The range of the labels on the axis.
    """

    title: str
    caption: str = ""
    scale: Scale = PLAIN
    reference: float | None = None
    reference_name: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)

    def axis_over(self, entries: Sequence[ForestEntry]) -> Axis:
        """Return an axis that contains the entries and the reference."""
        reference = [] if self.reference is None else [self.reference]
        ends = [end for entry in entries for end in entry.ends]
        return axis_over([*reference, *ends], limits=self.limits)


def forest(entries: Sequence[ForestEntry], frame: ForestFrame) -> Forest:
    """Lay out a forest plot; an entry with an undefined value shows the reason."""
    axis = frame.axis_over(entries)
    has_values = any(entry.ends for entry in entries)
    return Forest(
        title=frame.title,
        caption=frame.caption,
        axis=axis,
        rows=tuple(_row(entry, axis, frame.scale) for entry in entries),
        ticks=labelled_ticks(axis, frame.scale) if has_values else (),
        reference=None if frame.reference is None else axis.position(frame.reference),
        reference_name="" if frame.reference is None else frame.reference_name,
    )


def _row(entry: ForestEntry, axis: Axis, scale: Scale) -> ForestRow:
    estimate = entry.estimate
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        low = high = None
    return ForestRow(
        name=entry.name,
        note=entry.note,
        value="" if value is None else scale.text(value),
        interval="" if value is None else scale.interval(low, high),
        x=None if value is None else axis.position(value),
        x_low=None if low is None else axis.position(low),
        x_high=None if high is None else axis.position(high),
        kind=entry.kind,
        tag=entry.tag,
        reason=(estimate.undefined or NO_VALUE) if value is None else "",
        section=entry.section,
    )


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
