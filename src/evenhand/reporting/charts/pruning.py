"""Charts of a pruning: the way it went, and what was predicted of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.reporting.charts.forest import Axis, axis_over
from evenhand.reporting.pruning_record import LayerRecord, PruningRecord
from evenhand.reporting.text.numbers import PERCENT, count_text, plain

Ticks = tuple[tuple[float, str], ...]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurveTrace:
    """A line with its marks, or marks alone; places in percent, from the top left."""

    name: str
    look: int
    points: str
    marks: tuple[tuple[float, float, str], ...]
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines or clouds of points over two axes."""

    title: str
    says: str
    across: str
    up: str
    traces: tuple[CurveTrace, ...]
    x_ticks: Ticks
    y_ticks: Ticks
    chosen: tuple[tuple[float, float], ...] = ()
    level: float | None = None
    level_name: str = ""
    diagonal: tuple[float, float, float, float] | None = None


def confirming(name: str) -> str:
    """Return the column that has a number for the validation patients that confirm the choice."""
    return f"confirm:{name}"


def criterion_chart(curve: pd.DataFrame, record: PruningRecord) -> Chart:
    """Draw the fairness criterion over sparsity, with its target."""
    name, look = record.criterion, len(record.betas) + 1  # it is of no group
    better = "lower" if record.lower_is_better else "higher"
    target = record.target
    named = {name: (name, look)}
    if confirming(name) in curve:
        named = {
            name: (f"{name}, the half that chooses", look),
            confirming(name): (f"{name}, the half that confirms", look + 1),
        }
    says = f"On validation; {better} is better. The diamond is the chosen step."
    return _chart(
        curve,
        record,
        named,
        ("Fairness", says),
        level=target,
        level_name="the target",
    )


def group_chart(curve: pd.DataFrame, record: PruningRecord, looks: Mapping[str, int]) -> Chart:
    """Draw the accuracy of everybody and of each group over sparsity, with the budget."""
    metric, budget = record.budget_metric, record.budget
    named = {metric: ("everybody", len(looks))} | {
        f"{metric}:{group}": (group, look)
        for group, look in looks.items()
        if f"{metric}:{group}" in curve
    }
    level = None
    if budget is not None:
        falls = curve[metric].iloc[0] - 0.01 * budget
        level = falls if record.budget_lower_is_worse else curve[metric].iloc[0] + 0.01 * budget
    halved = confirming(record.criterion) in curve
    whom = "the half of the validation patients that chooses" if halved else "validation"
    says = f"{metric} on {whom}, of everybody and by group."
    return _chart(
        curve,
        record,
        named,
        ("Accuracy", says),
        level=level,
        level_name="" if budget is None else f"everybody may not pass this: budget {budget:g}",
    )


def _chart(
    curve: pd.DataFrame,
    record: PruningRecord,
    named: Mapping[str, tuple[str, int]],
    title: tuple[str, str],
    *,
    level: float | None,
    level_name: str,
) -> Chart:
    x = axis_over(curve["sparsity"], limits=(0, 1))
    values = [value for name in named for value in curve[name] if math.isfinite(value)]
    y = axis_over([*values, *([] if level is None else [level])])
    first = next(iter(named))
    chosen = curve.iloc[record.chosen]
    traces = []
    for name, (shown, look) in named.items():
        places = [(float(a), float(b)) for a, b in zip(curve["sparsity"], curve[name], strict=True)]
        traces.append(_trace(shown, look, [p for p in places if math.isfinite(p[1])], (x, y)))
    return Chart(
        *title,
        across="Sparsity",
        up=first,
        traces=tuple(traces),
        x_ticks=tuple((x.at(tick), PERCENT.text(tick).replace(".0", "")) for tick in x.ticks),
        y_ticks=_y_ticks(y),
        chosen=((x.at(float(chosen["sparsity"])), 100 - y.at(float(chosen[first]))),),
        level=None if level is None else 100 - y.at(level),
        level_name="" if level is None else level_name,
    )


def _trace(name: str, look: int, places: Points, axes: tuple[Axis, Axis]) -> CurveTrace:
    x, y = axes
    points = [(x.at(a), 100 - y.at(b), f"{name}: {plain(b, 4)}") for a, b in places]
    return CurveTrace(name, look, " ".join(f"{a},{b}" for a, b, _ in points), tuple(points))


def _y_ticks(axis: Axis) -> Ticks:
    digits = 2 if axis.high - axis.low > 0.05 else 3
    return tuple((100 - axis.at(tick), plain(tick, digits)) for tick in axis.ticks)


def premise_chart(record: PruningRecord, group: str, look: int) -> Chart:
    """Draw measured by predicted changes, both on an axis that is linear only near 0."""
    layers = record.premise.layers
    pairs = [(layer.predicted[group], layer.measured[group]) for layer in layers]
    unit = _unit([value for pair in pairs for value in pair])
    bent = [(math.asinh(a / unit), math.asinh(b / unit)) for a, b in pairs]
    x, y = axis_over([a for a, _ in bent] + [0.0]), axis_over([b for _, b in bent] + [0.0])
    marks = tuple(
        (x.at(a), 100 - y.at(b), f"{layer.name}: predicted {p:.2g}, measured {m:.2g}")
        for (a, b), (p, m), layer in zip(bent, pairs, layers, strict=True)
    )
    low, high = max(x.low, y.low), min(x.high, y.high)
    rank = record.premise.correlation[group]
    correlation = "undefined" if rank is None else plain(rank, 2)
    return Chart(
        group,
        f"Rank correlation {correlation} over {count_text(len(layers), 'layer')}.",
        across="Predicted change of error",
        up="measured change",
        traces=(CurveTrace(group, look, "", marks),),
        x_ticks=_bent_ticks(x, unit, down=False),
        y_ticks=_bent_ticks(y, unit, down=True),
        diagonal=(x.at(low), 100 - y.at(low), x.at(high), 100 - y.at(high)) if low < high else None,
    )


def saliency_chart(
    layer: LayerRecord, sample: pd.DataFrame, groups: Sequence[str], looks: Mapping[str, int]
) -> Chart:
    """Draw each group's predicted error change of a layer's numbers, in the first group's order.

    Parameters
    ----------
    layer, sample
        The layer, and the rows of ``saliency.csv`` about it.
    groups, looks
        The groups, the unprivileged first, and the look of each.
    """
    changes = {group: sample[f"change:{group}"].to_numpy(float) for group in groups}
    unit = _unit(np.concatenate(list(changes.values())))
    x = axis_over(sample["rank"], limits=(0, 1))
    y = axis_over([0.0, *(math.asinh(value / unit) for own in changes.values() for value in own)])
    across = [x.at(rank) for rank in sample["rank"]]
    pruned = sample["pruned"].to_numpy(bool) if "pruned" in sample else np.zeros(len(sample), bool)
    traces = []
    for group, own in changes.items():
        up = [100 - y.at(math.asinh(value / unit)) for value in own]
        marks = [
            (a, b, f"{group}: {value:.1e}") for a, b, value in zip(across, up, own, strict=True)
        ]
        for name, rows in ((group, ~pruned), (f"{group}, pruned", pruned)):
            chosen = tuple(mark for mark, is_in in zip(marks, rows, strict=True) if is_in)
            if chosen:
                traces.append(CurveTrace(name, looks[group], "", chosen, hollow=rows is pruned))
    return Chart(
        layer.name.removeprefix("backbone."),
        f"{len(sample):,} of {count_text(layer.size, 'number')}, of which "
        f"{PERCENT.text(layer.pruned / layer.size)} were pruned.",
        across=f"Numbers in the order of {groups[0]}",
        up="predicted change of error",
        traces=tuple(traces),
        x_ticks=tuple((x.at(tick), PERCENT.text(tick).replace(".0", "")) for tick in x.ticks),
        y_ticks=_bent_ticks(y, unit, down=True),
    )


def _unit(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the power of ten below which an axis is linear: a low quartile of the sizes."""
    sizes = sorted(abs(value) for value in values if value)
    return 10.0 ** math.floor(math.log10(sizes[len(sizes) // 4])) if sizes else 1.0


def _bent_ticks(axis: Axis, unit: float, *, down: bool) -> Ticks:
    """Return 0 and every second power of ten on an axis of asinh(value / unit)."""
    reach = range(1, 12, 2)
    values = [0.0, *(sign * unit * 10**k for k in reach for sign in (1, -1))]
    places = [(math.asinh(value / unit), value) for value in values]
    ticks = [(axis.at(place), value) for place, value in places if axis.low <= place <= axis.high]
    return tuple(
        (100 - place if down else place, "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-"))
        for place, value in sorted(ticks)
    )
