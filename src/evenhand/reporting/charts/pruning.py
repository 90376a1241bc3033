"""Charts of a pruning: its steps, and the saliency and the predictions of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evenhand.errors import count_text
from evenhand.metrics.registry import Floats
from evenhand.reporting.charts.linear_axis import Axis, Ticks, axis_over, labelled_ticks
from evenhand.reporting.pruning_record import LayerRecord, PruningRecord
from evenhand.reporting.text.vocabulary import PERCENT, PLAIN, plain, plain_or_undefined

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurveTrace:
    """A line with its marks, or marks alone; positions in percent, from the top left.

    Attributes
    ----------
    name, style
        The name, and the number of the line style.
    points, marks
        The points of the line, and its marks: x, y and text.
    hollow
        Whether the marks are hollow.
    """

    name: str
    style: int
    points: str
    marks: tuple[tuple[float, float, str], ...]
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines or points on two axes.

    Attributes
    ----------
    title, caption, x_label, y_label
        The title, an explanation, and the names of the axes.
    traces
        The lines or points.
    x_ticks, y_ticks
        Positions and texts of the ticks.
    chosen
        The positions of the chosen step.
    reference, reference_name
        The position and the name of a horizontal line.
    diagonal
        The ends of the line on which both axes have the same value, as x1, y1, x2, y2.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    traces: tuple[CurveTrace, ...]
    x_ticks: Ticks
    y_ticks: Ticks
    chosen: tuple[tuple[float, float], ...] = ()
    reference: float | None = None
    reference_name: str = ""
    diagonal: tuple[float, float, float, float] | None = None


def confirming_column(name: str) -> str:
    """Return the column with a number on the validation patients that confirm the choice."""
    return f"confirm:{name}"


def criterion_chart(curve: pd.DataFrame, record: PruningRecord) -> Chart:
    """Draw the fairness criterion over sparsity, with its target."""
    name, style = record.criterion, len(record.betas) + 1  # smaller numbers belong to groups
    better = "lower" if record.lower_is_better else "higher"
    columns = {name: (name, style)}
    if confirming_column(name) in curve:
        columns = {
            name: (f"{name}, the half that chooses", style),
            confirming_column(name): (f"{name}, the half that confirms", style + 1),
        }
    caption = f"On validation; {better} is better. The diamond is the chosen step."
    title = "Fairness", caption
    return _chart(curve, record, columns, title, (record.target, "the target"))


def group_chart(curve: pd.DataFrame, record: PruningRecord, styles: Mapping[str, int]) -> Chart:
    """Draw the accuracy of everybody and of each group over sparsity, with the budget."""
    metric, budget = record.budget_metric, record.budget
    columns = {metric: ("everybody", len(styles))} | {
        f"{metric}:{group}": (group, style)
        for group, style in styles.items()
        if f"{metric}:{group}" in curve
    }
    reference: tuple[float | None, str] = None, ""
    if budget is not None:
        sign = -1 if record.budget_lower_is_worse else 1
        limit = float(curve[metric].iloc[0]) + sign * 0.01 * budget
        reference = limit, f"limit for everybody: budget {budget:g}"
    halved = confirming_column(record.criterion) in curve
    patients = "the half of the validation patients that chooses" if halved else "validation"
    caption = f"{metric} on {patients}, of everybody and by group."
    return _chart(curve, record, columns, ("Accuracy", caption), reference)


def _chart(
    curve: pd.DataFrame,
    record: PruningRecord,
    columns: Mapping[str, tuple[str, int]],
    title: tuple[str, str],
    reference: tuple[float | None, str],
) -> Chart:
    """Draw columns of the curve over sparsity.

    Parameters
    ----------
    curve, record
        The steps, and the record of the pruning.
    columns
        By column of the curve: the name and the number of the line style.
    title
        The title and an explanation.
    reference
        The value and the name of a horizontal line; None where there is no line.
    """
    x = axis_over(curve["sparsity"], limits=(0, 1))
    values = [value for column in columns for value in curve[column] if math.isfinite(value)]
    level, reference_name = reference
    y = axis_over([*values, *([] if level is None else [level])])
    first = next(iter(columns))
    chosen = curve.iloc[record.chosen]
    traces = []
    for column, (name, style) in columns.items():
        pairs = zip(curve["sparsity"], curve[column], strict=True)
        points = [(float(a), float(b)) for a, b in pairs if math.isfinite(b)]
        traces.append(_trace(name, style, points, (x, y)))
    return Chart(
        *title,
        x_label="Sparsity",
        y_label=first,
        traces=tuple(traces),
        x_ticks=_percent_ticks(x),
        y_ticks=labelled_ticks(y, PLAIN, from_top=True),
        chosen=((x.position(float(chosen["sparsity"])), y.from_top(float(chosen[first]))),),
        reference=None if level is None else y.from_top(level),
        reference_name="" if level is None else reference_name,
    )


def _trace(name: str, style: int, points: Points, axes: tuple[Axis, Axis]) -> CurveTrace:
    """Lay out a line with a mark at each point."""
    x, y = axes
    marks = [(x.position(a), y.from_top(b), f"{name}: {plain(b, 4)}") for a, b in points]
    return CurveTrace(name, style, " ".join(f"{a},{b}" for a, b, _ in marks), tuple(marks))


def _percent_ticks(axis: Axis) -> Ticks:
    return tuple((axis.position(tick), PERCENT.text(tick).replace(".0", "")) for tick in axis.ticks)


def premise_chart(record: PruningRecord, group: str, style: int) -> Chart:
    """Draw measured against predicted changes, on axes that are linear near 0, else logarithmic."""
    layers = record.premise.layers
    pairs = [(layer.predicted[group], layer.measured[group]) for layer in layers]
    unit = _unit([value for pair in pairs for value in pair])
    scaled = [(math.asinh(a / unit), math.asinh(b / unit)) for a, b in pairs]
    x, y = axis_over([a for a, _ in scaled] + [0.0]), axis_over([b for _, b in scaled] + [0.0])
    marks = tuple(
        (x.position(a), y.from_top(b), f"{layer.name}: predicted {p:.2g}, measured {m:.2g}")
        for (a, b), (p, m), layer in zip(scaled, pairs, layers, strict=True)
    )
    low, high = max(x.low, y.low), min(x.high, y.high)
    rank = record.premise.correlation[group]
    correlation = plain_or_undefined(rank, 2)
    return Chart(
        group,
        f"Rank correlation {correlation} over {count_text(len(layers), 'layer')}.",
        x_label="Predicted change of error",
        y_label="measured change",
        traces=(CurveTrace(group, style, "", marks),),
        x_ticks=_asinh_ticks(x, unit, from_top=False),
        y_ticks=_asinh_ticks(y, unit, from_top=True),
        diagonal=(x.position(low), y.from_top(low), x.position(high), y.from_top(high))
        if low < high
        else None,
    )


def saliency_chart(
    layer: LayerRecord, sample: pd.DataFrame, groups: Sequence[str], styles: Mapping[str, int]
) -> Chart:
    """Draw each group's predicted error changes of the parameters of a layer.

    The parameters are in the order of the first group's changes.

    Parameters
    ----------
    layer, sample
        The layer, and its rows of ``saliency.csv``.
    groups, styles
        The groups, the unprivileged group first, and the number of each group's line style.
    """
    changes = {group: sample[f"change:{group}"].to_numpy(float) for group in groups}
    all_changes = np.concatenate(list(changes.values()))
    unit = _unit(all_changes)
    x = axis_over(sample["rank"], limits=(0, 1))
    y = axis_over([0.0, *(math.asinh(value / unit) for value in all_changes)])
    xs = [x.position(rank) for rank in sample["rank"]]
    pruned = sample["pruned"].to_numpy(bool) if "pruned" in sample else np.zeros(len(sample), bool)
    traces = []
    for group, values in changes.items():
        ys = [y.from_top(math.asinh(value / unit)) for value in values]
        marks = [
            (a, b, f"{group}: {value:.1e}") for a, b, value in zip(xs, ys, values, strict=True)
        ]
        for name, rows in ((group, ~pruned), (f"{group}, pruned", pruned)):
            chosen = tuple(mark for mark, is_in in zip(marks, rows, strict=True) if is_in)
            if chosen:
                traces.append(CurveTrace(name, styles[group], "", chosen, hollow=rows is pruned))
    return Chart(
        layer.name.removeprefix("backbone."),
        f"{len(sample):,} of {count_text(layer.size, 'parameter')}; "
        f"{PERCENT.text(layer.pruned / layer.size)} of all were pruned.",
        x_label=f"Parameters in the order of {groups[0]}",
        y_label="predicted change of error",
        traces=tuple(traces),
        x_ticks=_percent_ticks(x),
        y_ticks=_asinh_ticks(y, unit, from_top=True),
    )


def _unit(values: Sequence[float] | Floats) -> float:
    """Return the power of ten up to which an axis is linear, near the lower quartile of |value|."""
    sizes = sorted(abs(value) for value in values if value)
    return 10.0 ** math.floor(math.log10(sizes[len(sizes) // 4])) if sizes else 1.0


def _asinh_ticks(axis: Axis, unit: float, *, from_top: bool) -> Ticks:
    """Return the ticks of an axis of asinh(value / unit): 0 and every second power of ten."""
    sizes = [unit * 10**k for k in range(1, 12, 2)]
    position = axis.from_top if from_top else axis.position
    return tuple(
        (position(scaled), "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-"))
        for value in sorted([0.0, *sizes, *(-size for size in sizes)])
        if axis.low <= (scaled := math.asinh(value / unit)) <= axis.high
    )
