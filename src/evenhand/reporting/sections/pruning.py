"""The section on a pruning: its steps, its layers, the test of its premise, size and speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from evenhand.errors import count_text
from evenhand.reporting.charts.pruning import (
    Chart,
    confirming_column,
    criterion_chart,
    group_chart,
    premise_chart,
    saliency_chart,
)
from evenhand.reporting.pruning_record import CostRecord, LayerRecord, PremiseRecord, PruningRecord
from evenhand.reporting.report import Pruning, Report
from evenhand.reporting.section import section
from evenhand.reporting.sections.luck import luck_sentences
from evenhand.reporting.text.vocabulary import (
    MODELS,
    PERCENT,
    join_words,
    plain,
    plain_or_undefined,
)

QUANTILE = 1.645
"""The 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class LayerRow:
    """A layer in the table; ``bar`` is the pruned share in percent."""

    name: str
    size: str
    bar: float
    share: str
    saliency: tuple[str, ...]


@dataclass(frozen=True)
class PruningView:
    """The content of the section.

    Attributes
    ----------
    sentences, luck
        Sentences on the pruning, and on the luck of the choice.
    step_charts
        The charts of the steps.
    columns, steps
        The table of the steps: whether the step was chosen, and its cells.
    groups, layers
        The groups and rows of the table of layers.
    saliency, saliency_caption
        The charts of the saliency, and their explanation.
    premise, premise_caption
        The charts of the premise, and their explanation.
    costs, cost_caption
        The table of size and speed, and its explanation.
    """

    sentences: tuple[str, ...]
    luck: tuple[str, ...]
    step_charts: tuple[Chart, ...]
    columns: tuple[str, ...]
    steps: tuple[tuple[bool, tuple[str, ...]], ...]
    groups: tuple[str, ...]
    layers: tuple[LayerRow, ...]
    saliency: tuple[Chart, ...]
    saliency_caption: str
    premise: tuple[Chart, ...]
    premise_caption: str
    costs: tuple[tuple[str, ...], ...]
    cost_caption: str


@section("report", "pruning", "What was pruned", place=70)
def pruning_section(report: Report) -> PruningView | None:
    """Lay out the pruning of a report, None without one."""
    return None if report.pruning is None else pruning_view(report.pruning)


def pruning_view(pruning: Pruning) -> PruningView:
    """Lay out a pruning."""
    record, curve = pruning.record, pruning.curve
    groups = (record.unprivileged, *record.betas)
    # The order of the levels gives groups the same line style as in the curves of the scores.
    styles = {group: style for style, group in enumerate(record.premise.correlation)}
    return PruningView(
        sentences=(
            record.roles,
            f"{_saliency_sentence(record)}{_removed_sentence(curve, record)}",
            record.verdict,
        ),
        luck=_luck(record),
        step_charts=(criterion_chart(curve, record), group_chart(curve, record, styles)),
        columns=_columns(curve, record, groups),
        steps=_steps(curve, record, groups),
        groups=groups,
        layers=tuple(_layer(layer, groups) for layer in record.premise.layers),
        saliency=_saliency_charts(pruning, groups, styles),
        saliency_caption=_saliency_caption(record),
        premise=tuple(premise_chart(record, group, styles[group]) for group in groups),
        premise_caption=_premise_caption(record),
        costs=tuple(_cost(name, cost) for name, cost in record.cost.items()),
        cost_caption=_cost_caption(record),
    )


def _saliency_sentence(record: PruningRecord) -> str:
    """Return the sentence on the definition of saliency."""
    betas = [f"{beta:.3g} for {group}" for group, beta in record.betas.items()]
    structures = "channels" if record.structure == "channel" else "weights"
    return (
        f"Saliency is ½ θ² (h of {record.unprivileged} less β h of the other groups), with β "
        f"{join_words(betas)}; h comes from {record.estimator} on training samples. The "
        f"{structures} with the least saliency were removed first."
    )


def _removed_sentence(curve: pd.DataFrame, record: PruningRecord) -> str:
    """Return the sentence on the share that each step removed, if it removes whole channels."""
    if record.structure != "channel" or record.share is None or len(curve) < 2:
        return ""
    left = curve["left"].to_numpy(float)
    removed = 1 - left[1:] / left[:-1]
    full = removed[:-1] if len(removed) > 1 else removed  # the last step stops at the limit
    return (
        f" Each step should remove {PERCENT.text(record.share / 100)} of the remaining parameters. "
        f"As only whole channels can be removed, steps removed {PERCENT.text(full.min())} to "
        f"{PERCENT.text(full.max())}; the last step stops at the sparsity limit."
    )


def _luck(record: PruningRecord) -> tuple[str, ...]:
    if "luck" not in record.model_fields_set:  # an older run
        return ()
    if record.luck is not None:
        return luck_sentences(record.luck)
    if record.chosen == 0:
        return ("No step was chosen, so there is no luck of the choice.",)
    return (f"It is not known: with so few patients {record.criterion} is undefined.",)


def _columns(curve: pd.DataFrame, record: PruningRecord, groups: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the table of steps."""
    metric = record.budget_metric
    by_group = [f"{metric}:{group}" for group in groups if f"{metric}:{group}" in curve]
    confirm = [name for name in (confirming_column(record.criterion),) if name in curve]
    return tuple(dict.fromkeys([record.criterion, *confirm, metric, *by_group]))


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


def _saliency_charts(
    pruning: Pruning, groups: Sequence[str], styles: Mapping[str, int]
) -> tuple[Chart, ...]:
    """Draw the layers that lost the largest and the smallest share of their parameters."""
    sample = pruning.saliency
    if sample is None:  # an older run
        return ()
    layers = sorted(pruning.record.premise.layers, key=lambda layer: -layer.pruned / layer.size)
    shown = dict.fromkeys((layers[0].name, layers[-1].name))
    rows = {name: sample[sample["parameter"] == name] for name in shown}
    by_name = {layer.name: layer for layer in layers}
    return tuple(
        saliency_chart(by_name[name], rows[name], groups, styles)
        for name in shown
        if len(rows[name])
    )


def _saliency_caption(record: PruningRecord) -> str:
    others = join_words(list(record.betas))
    return (
        "The predicted growth of each group's error (second-order term) if one parameter is set to "
        f"zero. A parameter for which {others} lies far above {record.unprivileged} serves "
        f"{others} and is removed first. The charts show the layers that lost the largest and the "
        "smallest share of their parameters; saliency.csv has parameters of every layer."
    )


def _premise_caption(record: PruningRecord) -> str:
    premise = record.premise
    return (
        "The method assumes that the second-order term predicts the effect of a removal on each "
        f"group. As a test, the {PERCENT.text(premise.share).replace('.0', '')} of a layer with "
        "the least saliency are set to zero in the unpruned model, layer by layer, and the change "
        f"of the mean training loss is measured on {premise.samples} samples of each group. "
        "On the dashed line prediction and measurement agree. A change below 0 is a smaller loss, "
        "which the second-order term of a converged model cannot predict. "
        f"{_guidance(premise)}"
    )


def _guidance(premise: PremiseRecord) -> str:
    """Return the sentence on whether predicted and measured changes agree by more than chance.

    If they are independent, their rank correlation over n layers has mean 0 and standard deviation
    1 / √(n - 1).
    """
    layers = len(premise.layers)
    limit = QUANTILE / math.sqrt(layers - 1) if layers > 1 else math.inf
    if limit > 1:
        few = count_text(layers, "layer")
        return f"{few} are too few to show whether the saliency predicts the effect of a removal."
    weak = [
        f"{group} ({plain_or_undefined(rank, 2)})"
        for group, rank in premise.correlation.items()
        if rank is None or rank <= limit
    ]
    chance = f"{plain(limit, 2)}, which chance alone exceeds in 1 of 20 models of {layers} layers"
    if not weak:
        return f"The rank correlation of every group is above {chance}."
    return (
        f"The rank correlation for {join_words(weak)} is not above {chance}: the saliency does not "
        "predict the effect of a removal on these groups."
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


def _cost_caption(record: PruningRecord) -> str:
    device = next(iter(record.cost.values())).device
    if record.structure == "channel":
        effect = "Whole channels are removed, so the model is smaller and faster."
    else:
        effect = (
            "Multiplying by zero takes as long as by another number: pruning single weights makes "
            "the compressed file smaller, but not the model faster. Pruning channels does both."
        )
    return f"{effect} Time is the median for one sample ({device})."
