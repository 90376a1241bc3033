"""What pruning did: the way it went, layer by layer, its premise and what the models cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from evenhand.reporting.charts.pruning import (
    Chart,
    confirming,
    criterion_chart,
    group_chart,
    premise_chart,
    saliency_chart,
)
from evenhand.reporting.pruning_record import CostRecord, LayerRecord, PremiseRecord, PruningRecord
from evenhand.reporting.report import Pruning, Report
from evenhand.reporting.section import section
from evenhand.reporting.sections.luck import luck_sentences
from evenhand.reporting.text.numbers import PERCENT, count_text, listed, plain
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
    saliency: tuple[Chart, ...]
    saliency_says: str
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
    record, curve = pruning.record, pruning.curve
    groups = (record.unprivileged, *record.betas)
    # In the order of levels, as the curves of the scores have it.
    looks = {group: look for look, group in enumerate(record.premise.correlation)}
    return PruningView(
        sentences=(record.roles, f"{_weights(record)}{_taken(curve, record)}", record.verdict),
        luck=_luck(record),
        way=(criterion_chart(curve, record), group_chart(curve, record, looks)),
        columns=_columns(curve, record, groups),
        steps=_steps(curve, record, groups),
        groups=groups,
        layers=tuple(_layer(layer, groups) for layer in record.premise.layers),
        saliency=_saliency(pruning, groups, looks),
        saliency_says=_saliency_says(record),
        premise=tuple(premise_chart(record, group, looks[group]) for group in groups),
        premise_says=_premise_says(record),
        costs=tuple(_cost(name, cost) for name, cost in record.cost.items()),
        cost_says=_cost_says(record),
    )


def _weights(record: PruningRecord) -> str:
    betas = [f"{beta:.3g} for {group}" for group, beta in record.betas.items()]
    what = "channels" if record.structure == "channel" else "weights"
    return (
        f"Saliency is ½ θ² (h of {record.unprivileged} less β h of the others), with β "
        f"{listed(betas)}; h by {record.estimator}, from training samples. The {what} of least "
        "saliency went first."
    )


def _taken(curve: pd.DataFrame, record: PruningRecord) -> str:
    """Say which share each step removed, as it removes whole channels only."""
    if record.structure != "channel" or record.share is None or len(curve) < 2:
        return ""
    left = curve["left"].to_numpy(float)
    removed = 1 - left[1:] / left[:-1]
    full = removed[:-1] if len(removed) > 1 else removed  # the limit cuts the last one short
    return (
        f" A step was to remove {PERCENT.text(record.share / 100)} of the remaining numbers. As "
        f"only whole channels can go, it removed {PERCENT.text(full.min())} to "
        f"{PERCENT.text(full.max())}; the last step stops at the sparsity limit."
    )


def _luck(record: PruningRecord) -> tuple[str, ...]:
    if "luck" not in record.model_fields_set:  # an older run
        return ()
    if record.luck is not None:
        return luck_sentences(record.luck)
    if record.chosen == 0:
        return ("No step was chosen, so there is no luck of the choice.",)
    return (f"Not known: with so few patients {record.criterion} is undefined.",)


def _columns(curve: pd.DataFrame, record: PruningRecord, groups: Sequence[str]) -> tuple[str, ...]:
    metric = record.budget_metric
    own = [f"{metric}:{group}" for group in groups if f"{metric}:{group}" in curve]
    confirm = [name for name in (confirming(record.criterion),) if name in curve]
    return tuple(dict.fromkeys([record.criterion, *confirm, metric, *own]))


def _steps(
    curve: pd.DataFrame, record: PruningRecord, groups: Sequence[str]
) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    columns = _columns(curve, record, groups)
    return tuple(
        (
            row["step"] == record.chosen,
            (
                f"{row['step']:.0f}",
                PERCENT.text(row["sparsity"]),
                *("undefined" if pd.isna(row[name]) else plain(row[name], 4) for name in columns),
            ),
        )
        for row in curve.to_dict("records")
    )


def _layer(layer: LayerRecord, groups: Sequence[str]) -> LayerRow:
    share = layer.pruned / layer.size
    return LayerRow(
        layer.name.removeprefix("backbone."),
        f"{layer.size:,}",
        round(100 * share, 1),
        PERCENT.text(share),
        tuple(f"{layer.saliency[group]:.2g}" for group in groups),
    )


def _saliency(
    pruning: Pruning, groups: Sequence[str], looks: Mapping[str, int]
) -> tuple[Chart, ...]:
    """Draw the layer that lost the largest share of its numbers, and the one that lost least."""
    sample = pruning.saliency
    if sample is None:  # an older run
        return ()
    layers = sorted(pruning.record.premise.layers, key=lambda layer: -layer.pruned / layer.size)
    shown = dict.fromkeys((layers[0].name, layers[-1].name))
    rows = {name: sample[sample["parameter"] == name] for name in shown}
    by_name = {layer.name: layer for layer in layers}
    return tuple(
        saliency_chart(by_name[name], rows[name], groups, looks)
        for name in shown
        if len(rows[name])
    )


def _saliency_says(record: PruningRecord) -> str:
    others = listed(list(record.betas))
    return (
        f"By how much each group's error would grow, as the second-order term predicts, if one "
        f"number were set to zero. Where {others} lies far above {record.unprivileged}, the number "
        f"serves {others} and goes first. Shown are the layers that lost the largest and the "
        "smallest share of their numbers; saliency.csv has numbers of every layer."
    )


def _premise_says(record: PruningRecord) -> str:
    premise = record.premise
    return (
        "The method rests on the second-order term telling what a removal does to each group. Here "
        f"the {PERCENT.text(premise.share).replace('.0', '')} of least saliency of one layer at "
        "a time are set to zero in the untouched model, and the change of its mean loss (as it was "
        f"trained) is measured on {premise.samples} training samples of each group. On the "
        "dashed line both agree; a change below 0 means a smaller loss, which the second-order "
        f"term of a converged model cannot predict. {_guidance(premise)}"
    )


def _guidance(premise: PremiseRecord) -> str:
    """Say whether the ranks of predicted and measured changes agree by more than chance.

    Where they have nothing to do with each other, their correlation over n layers has a standard
    deviation of 1 / √(n - 1) about 0.
    """
    layers = len(premise.layers)
    limit = QUANTILE / math.sqrt(layers - 1) if layers > 1 else math.inf
    if limit > 1:
        few = count_text(layers, "layer")
        return f"Ranks of {few} are too few to tell whether the saliency is a guide."
    weak = [
        f"{group} ({'undefined' if rank is None else plain(rank, 2)})"
        for group, rank in premise.correlation.items()
        if rank is None or rank <= limit
    ]
    chance = f"{plain(limit, 2)}, which chance alone passes in one of 20 models of {layers} layers"
    if not weak:
        return f"Every group's rank correlation is above {chance}."
    return (
        f"The rank correlation for {listed(weak)} is not above {chance}: there the saliency is no "
        "guide to what a removal does."
    )


def _cost(name: str, cost: CostRecord) -> tuple[str, ...]:
    return (
        MODELS.get(name, name),
        f"{cost.parameters:,}",
        PERCENT.text(cost.zeros / cost.parameters),
        f"{cost.size / 1e6:.2f} MB",
        f"{cost.compressed / 1e6:.2f} MB",
        f"{cost.milliseconds:.1f} ms",
    )


def _cost_says(record: PruningRecord) -> str:
    device = next(iter(record.cost.values())).device
    if record.structure == "channel":
        kind = "Whole channels are gone, so that the model is smaller and has less to compute."
    else:
        kind = (
            "Zeros take as long to multiply as other numbers: weights that are pruned one by one "
            "save room when the file is compressed, and no time. Pruning channels does both."
        )
    return f"{kind} Time is the median for one sample ({device})."
