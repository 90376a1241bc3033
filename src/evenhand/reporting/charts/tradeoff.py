"""Geometry of Pareto plots: two targets of a search against each other, a dot for each trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from evenhand.metrics import Target
from evenhand.reporting.charts.forest import axis_over
from evenhand.reporting.text.numbers import finite, plain


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

    across: str
    up: str
    dots: tuple[TrialDot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def is_complete(row: Mapping[Any, Any], target: str) -> bool:
    """Return whether a trial was trained to its end and has a value."""
    return row["state"] == "complete" and finite(row[target]) is not None


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
    x, y = (_places(done, target) for target in pair)
    dots = [
        TrialDot(
            number=int(row["number"]),
            x=across,
            y=100 - up,
            values=", ".join(f"{target.label} {plain(row[target.name])}" for target in pair),
            front=bool(row.get("pareto", False)),
            chosen=row["number"] == chosen,
        )
        for row, across, up in zip(done, x[0], y[0], strict=True)
    ]
    return Tradeoff(
        across=pair[0].label,
        up=pair[1].label,
        dots=tuple(sorted(dots, key=lambda dot: (dot.chosen, dot.front))),
        x_ticks=x[1],
        y_ticks=tuple((100 - place, text) for place, text in y[1]),
    )


def _places(
    done: Sequence[Mapping[Any, Any]], target: Target
) -> tuple[list[float], tuple[tuple[float, str], ...]]:
    """Return the position of each trial, where larger is better, and the ticks."""
    axis = axis_over([row[target.name] for row in done])
    digits = 2 if axis.high - axis.low > 0.05 else 3

    def height(value: float) -> float:
        return axis.position(value) if target.maximise else round(100 - axis.position(value), 2)

    ticks = tuple((height(tick), plain(tick, digits)) for tick in axis.ticks)
    return [height(row[target.name]) for row in done], ticks
