"""Geometry of forest plots: positions of values, in percent of the picture's width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.files import finite_or_none
from evenhand.reporting.charts.linear_axis import Axis, Ticks, axis_over, labelled_ticks
from evenhand.reporting.estimates import NO_VALUE, Estimate
from evenhand.reporting.text.numbers import PLAIN, Scale


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
