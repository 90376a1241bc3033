"""Charts of a pruning: its steps, and the saliency and the predictions of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evenhand.metrics.registry import Floats
from evenhand.reporting.charts.forest import Axis, axis_over
from evenhand.reporting.charts.scatter import Ticks
from evenhand.reporting.pruning_record import LayerRecord, PruningRecord
from evenhand.reporting.text.numbers import PERCENT, plain
from evenhand.wording import count_text

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurveTrace:
    """A line with its marks, or marks alone; positions in percent, from the top left."""

    name: str
    look: int  # number of the colour and dashes
    points: str
    marks: tuple[tuple[float, float, str], ...]
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines or points on two axes.

    Attributes
    ----------
    title, says, across, up
        The title, an explanation, and the names of the x axis and the y axis.
    traces
        The lines or points.
    x_ticks, y_ticks
        Positions and texts of the ticks.
    chosen
        The positions of the chosen step.
    level, level_name
        The position and the name of a horizontal reference line.
    diagonal
        The ends of the line on which both axes have the same value, as x1, y1, x2, y2.
    """

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


def confirming_column(name: str) -> str:
    """Return the column with a number on the validation patients that confirm the choice."""
    return f"confirm:{name}"


def criterion_chart(curve: pd.DataFrame, record: PruningRecord) -> Chart:
    """Draw the fairness criterion over sparsity, with its target."""
    name, look = record.criterion, len(record.betas) + 1  # smaller looks belong to groups
    better = "lower" if record.lower_is_better else "higher"
    target = record.target
    columns = {name: (name, look)}
    if confirming_column(name) in curve:
        columns = {
            name: (f"{name}, the half that chooses", look),
            confirming_column(name): (f"{name}, the half that confirms", look + 1),
        }
    says = f"On validation; {better} is better. The diamond is the chosen step."
    return _chart(
        curve,
        record,
        columns,
        ("Fairness", says),
        level=target,
        level_name="the target",
    )


def group_chart(curve: pd.DataFrame, record: PruningRecord, looks: Mapping[str, int]) -> Chart:
    """Draw the accuracy of everybody and of each group over sparsity, with the budget."""
    metric, budget = record.budget_metric, record.budget
    columns = {metric: ("everybody", len(looks))} | {
        f"{metric}:{group}": (group, look)
        for group, look in looks.items()
        if f"{metric}:{group}" in curve
    }
    level = None
    if budget is not None:
        sign = -1 if record.budget_lower_is_worse else 1
        level = curve[metric].iloc[0] + sign * 0.01 * budget
    halved = confirming_column(record.criterion) in curve
    patients = "the half of the validation patients that chooses" if halved else "validation"
    says = f"{metric} on {patients}, of everybody and by group."
    return _chart(
        curve,
        record,
        columns,
        ("Accuracy", says),
        level=level,
        level_name="" if budget is None else f"limit for everybody: budget {budget:g}",
    )


def _chart(
    curve: pd.DataFrame,
    record: PruningRecord,
    columns: Mapping[str, tuple[str, int]],
    title: tuple[str, str],
    *,
    level: float | None,
    level_name: str,
) -> Chart:
    """Draw columns of the curve over sparsity.

    ``columns`` gives the name and the look of each; ``title`` is the title and an explanation.
    """
    x = axis_over(curve["sparsity"], limits=(0, 1))
    values = [value for column in columns for value in curve[column] if math.isfinite(value)]
    y = axis_over([*values, *([] if level is None else [level])])
    first = next(iter(columns))
    chosen = curve.iloc[record.chosen]
    traces = []
    for column, (name, look) in columns.items():
        pairs = zip(curve["sparsity"], curve[column], strict=True)
        points = [(float(a), float(b)) for a, b in pairs if math.isfinite(b)]
        traces.append(_trace(name, look, points, (x, y)))
    return Chart(
        *title,
        across="Sparsity",
        up=first,
        traces=tuple(traces),
        x_ticks=tuple((x.position(tick), PERCENT.text(tick).replace(".0", "")) for tick in x.ticks),
        y_ticks=_y_ticks(y),
        chosen=((x.position(float(chosen["sparsity"])), 100 - y.position(float(chosen[first]))),),
        level=None if level is None else 100 - y.position(level),
        level_name="" if level is None else level_name,
    )


def _trace(name: str, look: int, points: Points, axes: tuple[Axis, Axis]) -> CurveTrace:
    """Lay out a line with a mark at each point."""
    x, y = axes
    marks = [(x.position(a), 100 - y.position(b), f"{name}: {plain(b, 4)}") for a, b in points]
    return CurveTrace(name, look, " ".join(f"{a},{b}" for a, b, _ in marks), tuple(marks))


def _y_ticks(axis: Axis) -> Ticks:
    digits = 2 if axis.high - axis.low > 0.05 else 3
    return tuple((100 - axis.position(tick), plain(tick, digits)) for tick in axis.ticks)


def premise_chart(record: PruningRecord, group: str, look: int) -> Chart:
    """Draw measured against predicted changes, on axes that are linear near 0, else logarithmic."""
    layers = record.premise.layers
    pairs = [(layer.predicted[group], layer.measured[group]) for layer in layers]
    unit = _unit([value for pair in pairs for value in pair])
    scaled = [(math.asinh(a / unit), math.asinh(b / unit)) for a, b in pairs]
    x, y = axis_over([a for a, _ in scaled] + [0.0]), axis_over([b for _, b in scaled] + [0.0])
    marks = tuple(
        (x.position(a), 100 - y.position(b), f"{layer.name}: predicted {p:.2g}, measured {m:.2g}")
        for (a, b), (p, m), layer in zip(scaled, pairs, layers, strict=True)
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
        x_ticks=_asinh_ticks(x, unit, from_top=False),
        y_ticks=_asinh_ticks(y, unit, from_top=True),
        diagonal=(x.position(low), 100 - y.position(low), x.position(high), 100 - y.position(high))
        if low < high
        else None,
    )


def saliency_chart(
    layer: LayerRecord, sample: pd.DataFrame, groups: Sequence[str], looks: Mapping[str, int]
) -> Chart:
    """Draw each group's predicted error changes of the parameters of a layer.

    The parameters are in the order of the first group's changes.

    Parameters
    ----------
    layer, sample
        The layer, and its rows of ``saliency.csv``.
    groups, looks
        The groups, the unprivileged group first, and the look of each group.
    """
    changes = {group: sample[f"change:{group}"].to_numpy(float) for group in groups}
    all_changes = np.concatenate(list(changes.values()))
    unit = _unit(all_changes)
    x = axis_over(sample["rank"], limits=(0, 1))
    y = axis_over([0.0, *(math.asinh(value / unit) for value in all_changes)])
    across = [x.position(rank) for rank in sample["rank"]]
    pruned = sample["pruned"].to_numpy(bool) if "pruned" in sample else np.zeros(len(sample), bool)
    traces = []
    for group, values in changes.items():
        up = [100 - y.position(math.asinh(value / unit)) for value in values]
        marks = [
            (a, b, f"{group}: {value:.1e}") for a, b, value in zip(across, up, values, strict=True)
        ]
        for name, rows in ((group, ~pruned), (f"{group}, pruned", pruned)):
            chosen = tuple(mark for mark, is_in in zip(marks, rows, strict=True) if is_in)
            if chosen:
                traces.append(CurveTrace(name, looks[group], "", chosen, hollow=rows is pruned))
    return Chart(
        layer.name.removeprefix("backbone."),
        f"{len(sample):,} of {count_text(layer.size, 'parameter')}; "
        f"{PERCENT.text(layer.pruned / layer.size)} of all were pruned.",
        across=f"Parameters in the order of {groups[0]}",
        up="predicted change of error",
        traces=tuple(traces),
        x_ticks=tuple((x.position(tick), PERCENT.text(tick).replace(".0", "")) for tick in x.ticks),
        y_ticks=_asinh_ticks(y, unit, from_top=True),
    )


def _unit(values: Sequence[float] | Floats) -> float:
    """Return the power of ten up to which an axis is linear, near the lower quartile of |value|."""
    sizes = sorted(abs(value) for value in values if value)
    return 10.0 ** math.floor(math.log10(sizes[len(sizes) // 4])) if sizes else 1.0


def _asinh_ticks(axis: Axis, unit: float, *, from_top: bool) -> Ticks:
    """Return the ticks of an axis of asinh(value / unit): 0 and every second power of ten.

    Positions on a y axis count from the top: ``from_top``.
    """
    reach = range(1, 12, 2)
    values = [0.0, *(sign * unit * 10**k for k in reach for sign in (1, -1))]
    places = [(math.asinh(value / unit), value) for value in values]
    ticks = [
        (axis.position(place), value) for place, value in places if axis.low <= place <= axis.high
    ]
    return tuple(
        (
            100 - place if from_top else place,
            "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-"),
        )
        for place, value in sorted(ticks)
    )
