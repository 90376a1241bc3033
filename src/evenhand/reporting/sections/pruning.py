"""What pruning did: the way it went, layer by layer, its premise and what the models cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evenhand.reporting.charts.pruning import (
    Chart,
    confirming,
    criterion_chart,
    group_chart,
    premise_chart,
)
from evenhand.reporting.report import Pruning, Report
from evenhand.reporting.section import section
from evenhand.reporting.sections.luck import luck_sentences, read_luck
from evenhand.reporting.text.numbers import PERCENT, counted, listed, plain
from evenhand.reporting.text.vocabulary import MODELS

QUANTILE = 1.645  # of the normal distribution, at 95 %


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
    luck: tuple[str, ...]
    way: tuple[Chart, ...]
    columns: tuple[str, ...]
    steps: tuple[tuple[bool, tuple[str, ...]], ...]
    groups: tuple[str, ...]
    layers: tuple[LayerRow, ...]
    premise: tuple[Chart, ...]
    premise_says: str
    costs: tuple[tuple[str, ...], ...]
    cost_says: str


@section("report", "pruning", "What was pruned", place=70)
def pruning_section(report: Report) -> PruningView | None:
    """Lay out the pruning of a report, None without one."""
    return None if report.pruning is None else pruning_view(report.pruning)


def pruning_view(pruning: Pruning) -> PruningView:
    """Lay out a pruning."""
    facts, curve = pruning.facts, pruning.curve
    groups = (facts["unprivileged"], *facts["betas"])
    # In the order of levels, as the curves of the scores have it.
    looks = {group: look for look, group in enumerate(facts["premise"]["correlation"])}
    return PruningView(
        sentences=(facts["roles"], f"{_weights(facts)}{_taken(curve, facts)}", facts["verdict"]),
        luck=_luck(facts),
        way=(criterion_chart(curve, facts), group_chart(curve, facts, looks)),
        columns=_columns(curve, facts, groups),
        steps=_steps(curve, facts, groups),
        groups=groups,
        layers=tuple(_layer(layer, groups) for layer in facts["premise"]["layers"]),
        premise=tuple(premise_chart(facts, group, looks[group]) for group in groups),
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


def _taken(curve: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Say which share each step removed, as it removes whole channels only."""
    if facts["structure"] != "channel" or "share" not in facts or len(curve) < 2:
        return ""
    left = curve["left"].to_numpy(float)
    removed = 1 - left[1:] / left[:-1]
    full = removed[:-1] if len(removed) > 1 else removed  # the limit cuts the last one short
    return (
        f" A step was to remove {PERCENT.text(facts['share'] / 100)} of the remaining numbers. As "
        f"only whole channels can go, it removed {PERCENT.text(full.min())} to "
        f"{PERCENT.text(full.max())}; the last step stops at the sparsity limit."
    )


def _luck(facts: Mapping[str, Any]) -> tuple[str, ...]:
    if "luck" not in facts:  # an older run
        return ()
    luck = read_luck(facts["luck"])
    if luck is not None:
        return luck_sentences(luck)
    if facts["chosen"] == 0:
        return ("No step was chosen, so there is no luck of the choice.",)
    return (f"Not known: with so few patients {facts['criterion']} is undefined.",)


def _columns(
    curve: pd.DataFrame, facts: Mapping[str, Any], groups: Sequence[str]
) -> tuple[str, ...]:
    metric = facts["budget_metric"]
    own = [f"{metric}:{group}" for group in groups if f"{metric}:{group}" in curve]
    confirm = [name for name in (confirming(facts["criterion"]),) if name in curve]
    return tuple(dict.fromkeys([facts["criterion"], *confirm, metric, *own]))


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


def _premise_says(facts: Mapping[str, Any]) -> str:
    premise = facts["premise"]
    return (
        "The method rests on the second-order term telling what a removal does to each group. Here "
        f"the {PERCENT.text(premise['share']).replace('.0', '')} of least saliency of one layer at "
        "a time are set to zero in the untouched model, and the change of its mean loss (as it was "
        f"trained) is measured on {premise['samples']} training samples of each group. On the "
        "dashed line both agree; a change below 0 means a smaller loss, which the second-order "
        f"term of a converged model cannot predict. {_guidance(premise)}"
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
        MODELS.get(name, name),
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
