"""Geometry of forest plots: positions of values, in percent of the picture's width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evenhand.reporting.estimates import NO_VALUE, Estimate
from evenhand.reporting.text.numbers import PLAIN, Scale, plain

ROOM = 0.06
"""Share of the range of values that the axis leaves free at each end."""


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes
    ----------
    low, high
        The values at its ends.
    ticks
        The values that are labelled.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def position(self, value: float) -> float:
        """Return the position of a value in percent of the width, from 0 to 100."""
        place = 100 * (value - self.low) / (self.high - self.low)
        return round(min(max(place, 0.0), 100.0), 2)


def axis_over(
    values: Iterable[float],
    *,
    max_ticks: int = 5,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Axis:
    """Return an axis that contains all values, with round ticks within limits.

    Parameters
    ----------
    values
        The values; those that are not finite are ignored.
    max_ticks
        The largest number of ticks.
    limits
        The range of the ticks.

    Examples
    --------
    >>> axis_over([0.61, 0.84]).ticks
    (0.6, 0.7, 0.8)
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    room = ROOM * (high - low)
    low, high = low - room, high + room
    step = _round_step((high - low) / max_ticks)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = (round(k * step, 10) for k in range(first, last + 1))
    return Axis(low, high, tuple(tick for tick in ticks if limits[0] <= tick <= limits[1]))


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
    kind: str = "group"
    tag: str = ""
    reason: str = ""
    section: str = ""


@dataclass(frozen=True)
class Forest:
    """A forest plot: rows on one axis, and a reference value as a line through all rows."""

    title: str
    says: str
    axis: Axis
    rows: tuple[ForestRow, ...]
    ticks: tuple[tuple[float, str], ...]
    reference: float | None = None
    reference_name: str = ""


@dataclass(frozen=True)
class Line:
    """The content of a row of a forest plot, before it is laid out (see `ForestRow`)."""

    name: str
    estimate: Estimate
    note: str = ""
    kind: str = "group"
    tag: str = ""
    section: str = ""


@dataclass(frozen=True)
class Look:
    """How a forest plot shows its numbers.

    Attributes
    ----------
    title, says
        The heading, and a sentence on the meaning of a value.
    scale
        The format of values.
    reference, reference_name
        A value with a line through all rows, and the name of the line.
    limits
        The range of the labels on the axis.
    """

    title: str
    says: str = ""
    scale: Scale = PLAIN
    reference: float | None = None
    reference_name: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)


def forest(lines: Sequence[Line], look: Look) -> Forest:
    """Lay out a forest plot; a line with an undefined value shows the reason."""
    reference = [] if look.reference is None else [look.reference]
    ends = [end for line in lines for end in _ends(line.estimate)]
    axis = axis_over([*reference, *ends], limits=look.limits)
    return Forest(
        title=look.title,
        says=look.says,
        axis=axis,
        rows=tuple(_row(line, axis, look.scale) for line in lines),
        ticks=labelled_ticks(axis, look.scale) if ends else (),
        reference=None if look.reference is None else axis.position(look.reference),
        reference_name="" if look.reference is None else look.reference_name,
    )


def _ends(estimate: Estimate) -> list[float]:
    ends = (estimate.value, estimate.low, estimate.high)
    return [] if estimate.value is None else [end for end in ends if end is not None]


def _row(line: Line, axis: Axis, scale: Scale) -> ForestRow:
    estimate = line.estimate
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        low = high = None
    return ForestRow(
        name=line.name,
        note=line.note,
        value="" if value is None else scale.text(value),
        interval="" if value is None else scale.interval(low, high),
        x=None if value is None else axis.position(value),
        x_low=None if low is None else axis.position(low),
        x_high=None if high is None else axis.position(high),
        kind=line.kind,
        tag=line.tag,
        reason=(estimate.undefined or NO_VALUE) if value is None else "",
        section=line.section,
    )


def labelled_ticks(axis: Axis, scale: Scale) -> tuple[tuple[float, str], ...]:
    """Return position and text of each tick, with as few decimals as needed."""
    values = [scale.factor * tick for tick in axis.ticks]
    digits = next(d for d in range(12) if all(abs(round(v, d) - v) < 1e-8 for v in values))
    return tuple(
        (axis.position(tick), plain(value, digits))
        for tick, value in zip(axis.ticks, values, strict=True)
    )


def _round_step(raw: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 × 10ᵏ that is at least ``raw``."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
