"""The history of a search over masks and learning rates, as two pictures and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evenhand.report.forest import Axis, axis_over
from evenhand.report.numbers import plain


@dataclass(frozen=True)
class Search:
    """What an outer search tried.

    Attributes
    ----------
    trials
        One row per trial: ``number``, ``state`` (COMPLETE, PRUNED, FAIL …), ``value``, ``lr``,
        ``mask`` (names of the tuned units, separated by spaces or commas), and ``study`` where
        there are several.
    objective
        What was optimised, on validation data.
    maximise
        Whether a greater value is better.
    """

    trials: pd.DataFrame
    objective: str
    maximise: bool = True


@dataclass(frozen=True)
class Point:
    """One trial in a picture; places in percent of width and height, from the top left."""

    number: int
    state: str
    value: str
    lr: str
    mask: str
    x: float | None
    x_lr: float | None
    y: float | None
    best: bool


@dataclass(frozen=True)
class Step:
    """One piece of the line of the best value so far."""

    x: float
    until: float
    y: float
    y_next: float


@dataclass(frozen=True)
class SearchView:
    """One study, laid out."""

    study: str
    objective: str
    better: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    lr_ticks: tuple[tuple[float, str], ...]
    finished: int
    pruned: int
    failed: int


def search_views(search: Search) -> tuple[SearchView, ...]:
    """Lay out each study of a search, in the order in which they appear."""
    if "study" not in search.trials:
        return (_view("", search.trials, search),)
    studies = dict.fromkeys(search.trials["study"].astype(str))
    named = search.trials["study"].astype(str)
    return tuple(_view(study, search.trials[named == study], search) for study in studies)


def _view(study: str, trials: pd.DataFrame, search: Search) -> SearchView:
    records = trials.sort_values("number").to_dict("records")
    values = [value for row in records if (value := _number(row["value"])) is not None]
    rates = [rate for row in records if (rate := _number(row.get("lr"))) is not None]
    x = axis_over([row["number"] for row in records])
    y = axis_over(values)
    lr = _log_axis(rates)
    winner = _winner(records, search.maximise)
    points = tuple(_point(row, (x, y, lr), row["number"] == winner) for row in records)
    states = [point.state for point in points]
    return SearchView(
        study=study,
        objective=search.objective,
        better="higher" if search.maximise else "lower",
        points=points,
        steps=_steps(records, x, y, maximise=search.maximise),
        y_ticks=tuple(
            (100 - y.at(t), plain(t, 2 if y.high - y.low > 0.05 else 3)) for t in y.ticks
        ),
        x_ticks=tuple((x.at(t), plain(t, 0)) for t in x.ticks if float(t).is_integer()),
        lr_ticks=tuple((lr.at(t), _power(t)) for t in lr.ticks),
        finished=states.count("complete"),
        pruned=states.count("pruned"),
        failed=len(states) - states.count("complete") - states.count("pruned"),
    )


def _winner(records: Sequence[dict[Any, Any]], maximise: bool) -> int | None:
    done = [row for row in records if _complete(row)]
    if not done:
        return None
    sign = 1.0 if maximise else -1.0
    return int(max(done, key=lambda row: sign * float(row["value"]))["number"])


def _point(row: dict[Any, Any], axes: tuple[Axis, Axis, Axis], best: bool) -> Point:
    x, y, lr = axes
    value, rate = _number(row["value"]), _number(row.get("lr"))
    mask = row.get("mask")
    return Point(
        number=int(row["number"]),
        state=str(row["state"]).lower(),
        value="" if value is None else plain(value),
        lr="" if rate is None else f"{rate:.2g}",
        mask=mask if isinstance(mask, str) else "",
        x=x.at(row["number"]),
        x_lr=None if rate is None else lr.at(math.log10(rate)),
        y=None if value is None else 100 - y.at(value),
        best=best,
    )


def _steps(
    records: Sequence[dict[Any, Any]], x: Axis, y: Axis, *, maximise: bool
) -> tuple[Step, ...]:
    """Return the best value so far as horizontal pieces, each with the jump at its end."""
    jumps: list[tuple[float, float]] = []
    for row in filter(_complete, records):
        value = float(row["value"])
        best = jumps[-1][1] if jumps else None
        if best is None or (value > best if maximise else value < best):
            jumps.append((float(row["number"]), value))
    if not jumps:
        return ()
    ends = [*jumps[1:], (float(records[-1]["number"]), jumps[-1][1])]
    return tuple(
        Step(x.at(start), x.at(end), 100 - y.at(value), 100 - y.at(after))
        for (start, value), (end, after) in zip(jumps, ends, strict=True)
    )


def _complete(row: dict[Any, Any]) -> bool:
    return str(row["state"]).upper() == "COMPLETE" and _number(row["value"]) is not None


def _number(value: Any) -> float | None:
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    return float(value)


def _log_axis(rates: Sequence[float]) -> Axis:
    logs = [math.log10(rate) for rate in rates if rate > 0] or [-4.0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    high = max(high, low + 1)
    return Axis(low - 0.06, high + 0.06, tuple(float(k) for k in range(low, high + 1)))


def _power(exponent: float) -> str:
    superscript = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{superscript}"
