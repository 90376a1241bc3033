"""The Pareto plot: one goal of a search against another, trial by trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from evenhand.reporting.charts.forest import axis_over
from evenhand.reporting.goals import Goal, complete
from evenhand.reporting.text.numbers import plain


@dataclass(frozen=True)
class Dot:
    """One trial; places in percent of width and height, from the top left."""

    number: int
    x: float
    y: float
    values: str
    front: bool
    chosen: bool


@dataclass(frozen=True)
class Tradeoff:
    """Two goals of a study, laid out; the better way is up and to the right for both."""

    across: str
    up: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def tradeoffs(
    records: Sequence[Mapping[Any, Any]], goals: Sequence[Goal], chosen: int | None
) -> tuple[Tradeoff, ...]:
    """Lay out each pair of goals over the trials that were trained to their end."""
    done = [row for row in records if all(complete(row, goal.name) for goal in goals)]
    if not done:
        return ()
    return tuple(_tradeoff(done, pair, chosen) for pair in combinations(goals, 2))


def _tradeoff(
    done: Sequence[Mapping[Any, Any]], pair: tuple[Goal, Goal], chosen: int | None
) -> Tradeoff:
    x, y = (_places(done, goal) for goal in pair)
    dots = [
        Dot(
            number=int(row["number"]),
            x=across,
            y=100 - up,
            values=", ".join(f"{goal.label} {plain(row[goal.name])}" for goal in pair),
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
    done: Sequence[Mapping[Any, Any]], goal: Goal
) -> tuple[list[float], tuple[tuple[float, str], ...]]:
    """Return the place of each trial, the better the greater, and the ticks with their texts."""
    axis = axis_over([row[goal.name] for row in done])
    digits = 2 if axis.high - axis.low > 0.05 else 3

    def at(value: float) -> float:
        return axis.at(value) if goal.maximise else round(100 - axis.at(value), 2)

    ticks = tuple((at(tick), plain(tick, digits)) for tick in axis.ticks)
    return [at(row[goal.name]) for row in done], ticks
