"""Geometry of Pareto plots: two targets of a search against each other, a dot for each trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from evenhand.files import finite_or_none
from evenhand.metrics import Target
from evenhand.reporting.charts.linear_axis import Axis, Ticks, axis_over, labelled_ticks
from evenhand.reporting.text.numbers import PLAIN, plain


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
