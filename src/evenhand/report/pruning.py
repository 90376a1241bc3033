"""What pruning did: the way it went, layer by layer, its premise and what the models cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evenhand.report.forest import Axis, axis_over
from evenhand.report.numbers import PERCENT, counted, listed, plain
from evenhand.report.terms import model_name

QUANTILE = 1.645  # of the normal distribution, at 95 %

Ticks = tuple[tuple[float, str], ...]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Pruning:
    """A pruning, as its run holds it.

    Attributes
    ----------
    curve
        Every step with its number, sparsity and validation numbers (``curve.csv``).
    facts
        Who, what and why, each layer, and what the models cost (``pruning.json``).
    """

    curve: pd.DataFrame
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """A line with its marks; places in percent of width and height, from the top left."""

    name: str
    look: int
    points: str
    marks: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Chart:
    """Lines or clouds of points over two axes."""

    title: str
    says: str
    across: str
    up: str
    traces: tuple[Trace, ...]
    x_ticks: Ticks
    y_ticks: Ticks
    chosen: tuple[tuple[float, float], ...] = ()
    level: float | None = None
    level_name: str = ""
    diagonal: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class LayerRow:
    """One layer in the table; ``bar`` is the pruned share in percent."""

    name: str
    size: str
    bar: float
    share: str
    saliency: tuple[str, ...]


@dataclass(frozen=True)
class PruningView:
    """A pruning, laid out."""

    sentences: tuple[str, ...]
    way: tuple[Chart, ...]
    columns: tuple[str, ...]
    steps: tuple[tuple[bool, tuple[str, ...]], ...]
    groups: tuple[str, ...]
    layers: tuple[LayerRow, ...]
    premise: tuple[Chart, ...]
    premise_says: str
    costs: tuple[tuple[str, ...], ...]
    cost_says: str


def pruning_view(pruning: Pruning) -> PruningView:
    """Lay out a pruning."""
    facts, curve = pruning.facts, pruning.curve
    groups = (facts["unprivileged"], *facts["betas"])
    # In the order of levels, as the curves of the scores have it.
    looks = {group: look for look, group in enumerate(facts["premise"]["correlation"])}
    return PruningView(
        sentences=(facts["roles"], _weights(facts), facts["verdict"]),
        way=(_criterion_chart(curve, facts), _group_chart(curve, facts, looks)),
        columns=_columns(curve, facts, groups),
        steps=_steps(curve, facts, groups),
        groups=groups,
        layers=tuple(_layer(layer, groups) for layer in facts["premise"]["layers"]),
        premise=tuple(_premise_chart(facts, group, looks[group]) for group in groups),
        premise_says=_premise_says(facts),
        costs=tuple(_cost(name, cost) for name, cost in facts["cost"].items()),
        cost_says=_cost_says(facts),
    )


def _weights(facts: Mapping[str, Any]) -> str:
    betas = [f"{beta:.3g} for {group}" for group, beta in facts["betas"].items()]
    what = "channels" if facts["structure"] == "channel" else "weights"
    return (
        f"Saliency is ½ θ² (h of {facts['unprivileged']} less β h of the others), with β "
        f"{listed(betas)}; h by {facts['estimator']}, from training samples. The {what} of least "
        "saliency went first."
    )


def _criterion_chart(curve: pd.DataFrame, facts: Mapping[str, Any]) -> Chart:
    name = facts["criterion"]
    better = "lower" if facts["lower_is_better"] else "higher"
    target = facts["target"]
    says = f"On validation; {better} is better. The diamond is the chosen step."
    return _chart(
        curve,
        facts,
        {name: (name, len(facts["betas"]) + 1)},  # it is of no group
        ("Fairness", says),
        level=target,
        level_name="the target",
    )


def _group_chart(curve: pd.DataFrame, facts: Mapping[str, Any], looks: Mapping[str, int]) -> Chart:
    metric, budget = facts["budget_metric"], facts["budget"]
    named = {metric: ("everybody", len(looks))} | {
        f"{metric}:{group}": (group, look)
        for group, look in looks.items()
        if f"{metric}:{group}" in curve
    }
    level = None
    if budget is not None:
        falls = curve[metric].iloc[0] - 0.01 * budget
        level = falls if facts["budget_lower_is_worse"] else curve[metric].iloc[0] + 0.01 * budget
    says = f"{metric} on validation, of everybody and by group."
    return _chart(
        curve,
        facts,
        named,
        ("Accuracy", says),
        level=level,
        level_name="" if budget is None else f"everybody may not pass this: budget {budget:g}",
    )


def _chart(
    curve: pd.DataFrame,
    facts: Mapping[str, Any],
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
    chosen = curve.iloc[facts["chosen"]]
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


def _trace(name: str, look: int, places: Points, axes: tuple[Axis, Axis]) -> Trace:
    x, y = axes
    at = [(x.at(a), 100 - y.at(b), f"{name}: {plain(b, 4)}") for a, b in places]
    return Trace(name, look, " ".join(f"{a},{b}" for a, b, _ in at), tuple(at))


def _y_ticks(axis: Axis) -> Ticks:
    digits = 2 if axis.high - axis.low > 0.05 else 3
    return tuple((100 - axis.at(tick), plain(tick, digits)) for tick in axis.ticks)


def _columns(
    curve: pd.DataFrame, facts: Mapping[str, Any], groups: Sequence[str]
) -> tuple[str, ...]:
    metric = facts["budget_metric"]
    own = [f"{metric}:{group}" for group in groups if f"{metric}:{group}" in curve]
    return tuple(dict.fromkeys([facts["criterion"], metric, *own]))


def _steps(
    curve: pd.DataFrame, facts: Mapping[str, Any], groups: Sequence[str]
) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    columns = _columns(curve, facts, groups)
    return tuple(
        (
            row["step"] == facts["chosen"],
            (
                f"{row['step']:.0f}",
                PERCENT.text(row["sparsity"]),
                *("undefined" if pd.isna(row[name]) else plain(row[name], 4) for name in columns),
            ),
        )
        for row in curve.to_dict("records")
    )


def _layer(layer: Mapping[str, Any], groups: Sequence[str]) -> LayerRow:
    share = layer["pruned"] / layer["size"]
    return LayerRow(
        layer["name"].removeprefix("backbone."),
        f"{layer['size']:,}",
        round(100 * share, 1),
        PERCENT.text(share),
        tuple(f"{layer['saliency'][group]:.2g}" for group in groups),
    )


def _premise_chart(facts: Mapping[str, Any], group: str, look: int) -> Chart:
    """Return measured by predicted changes, both on an axis that is linear only near 0."""
    layers = facts["premise"]["layers"]
    pairs = [(layer["predicted"][group], layer["measured"][group]) for layer in layers]
    sizes = sorted(abs(value) for pair in pairs for value in pair if value)
    unit = 10.0 ** math.floor(math.log10(sizes[len(sizes) // 4])) if sizes else 1.0
    bent = [(math.asinh(a / unit), math.asinh(b / unit)) for a, b in pairs]
    x, y = axis_over([a for a, _ in bent] + [0.0]), axis_over([b for _, b in bent] + [0.0])
    marks = tuple(
        (x.at(a), 100 - y.at(b), f"{layer['name']}: predicted {p:.2g}, measured {m:.2g}")
        for (a, b), (p, m), layer in zip(bent, pairs, layers, strict=True)
    )
    low, high = max(x.low, y.low), min(x.high, y.high)
    rank = facts["premise"]["correlation"][group]
    said = "undefined" if rank is None else plain(rank, 2)
    return Chart(
        group,
        f"Rank correlation {said} over {counted(len(layers), 'layer')}.",
        across="Predicted change of error",
        up="measured change",
        traces=(Trace(group, look, "", marks),),
        x_ticks=_bent_ticks(x, unit, down=False),
        y_ticks=_bent_ticks(y, unit, down=True),
        diagonal=(x.at(low), 100 - y.at(low), x.at(high), 100 - y.at(high)) if low < high else None,
    )


def _bent_ticks(axis: Axis, unit: float, *, down: bool) -> Ticks:
    """Return 0 and every second power of ten on an axis of asinh(value / unit)."""
    reach = range(1, 12, 2)
    values = [0.0, *(sign * unit * 10**k for k in reach for sign in (1, -1))]
    places = [(math.asinh(value / unit), value) for value in values]
    ticks = [(axis.at(at), value) for at, value in places if axis.low <= at <= axis.high]
    return tuple(
        (100 - at if down else at, "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-"))
        for at, value in sorted(ticks)
    )


def _premise_says(facts: Mapping[str, Any]) -> str:
    premise = facts["premise"]
    return (
        "The method rests on the second-order term telling what a removal does to each group. Here "
        f"the {PERCENT.text(premise['share']).replace('.0', '')} of least saliency of one layer at "
        f"a time are set to zero in the untouched model, and the change of mean cross-entropy is "
        f"measured on {premise['samples']} training samples of each group. On the dashed line both "
        "agree; a change below 0 is an error that got smaller, which the second-order term of a "
        f"converged model cannot foretell. {_guidance(premise)}"
    )


def _guidance(premise: Mapping[str, Any]) -> str:
    """Say whether the ranks of predicted and measured changes agree by more than chance.

    Where they have nothing to do with each other, their correlation over n layers has a standard
    deviation of 1 / √(n - 1) about 0.
    """
    layers = len(premise["layers"])
    limit = QUANTILE / math.sqrt(layers - 1) if layers > 1 else math.inf
    if limit > 1:
        few = counted(layers, "layer")
        return f"Ranks of {few} are too few to tell whether the saliency is a guide."
    weak = [
        f"{group} ({'undefined' if rank is None else plain(rank, 2)})"
        for group, rank in premise["correlation"].items()
        if rank is None or rank <= limit
    ]
    chance = f"{plain(limit, 2)}, which chance alone passes in one of 20 models of {layers} layers"
    if not weak:
        return f"Every group's rank correlation is above {chance}."
    return (
        f"The rank correlation for {listed(weak)} is not above {chance}: there the saliency is no "
        "guide to what a removal does."
    )


def _cost(name: str, cost: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        model_name(name),
        f"{cost['parameters']:,}",
        PERCENT.text(cost["zeros"] / cost["parameters"]),
        f"{cost['size'] / 1e6:.2f} MB",
        f"{cost['compressed'] / 1e6:.2f} MB",
        f"{cost['milliseconds']:.1f} ms",
    )


def _cost_says(facts: Mapping[str, Any]) -> str:
    device = next(iter(facts["cost"].values()))["device"]
    if facts["structure"] == "channel":
        kind = "Whole channels are gone, so that the model is smaller and has less to compute."
    else:
        kind = (
            "Zeros take as long to multiply as other numbers: weights that are pruned one by one "
            "save room when the file is compressed, and no time. Pruning channels does both."
        )
    return f"{kind} Time is the median for one sample ({device})."
