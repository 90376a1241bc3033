"""The saliency of the untouched model, and the check of FairPrune's premise.

The premise is that saliency predicts the change of a group's loss: predicted changes are compared
with measured ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from evenhand.jobs.prune.loop import step_curvature
from evenhand.jobs.prune.task import PruneTask, generators, group_batches
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.pruning.curvature import GroupBatch
from evenhand.pruning.curvature.loss import sample_losses, sample_weights
from evenhand.pruning.loop import WeightMask, apply_mask, prunable_parameters
from evenhand.pruning.saliency import GroupSaliency
from evenhand.reporting.pruning_record import GroupNumbers, LayerRecord, PremiseRecord

SAMPLES = 128  # samples of each group on which changes of loss are measured
FEWEST = 3  # layers that a rank correlation needs
SHARE = 0.3  # share of each layer's weights that is set to zero
TABLE_ROWS = 6000  # rows of the table of saliency over all layers, about
LEAST_ROWS, MOST_ROWS = 10, 100  # rows of a layer in that table


def check_premise(
    task: PruneTask, saliency: GroupSaliency, pruned: Mapping[str, int]
) -> PremiseRecord:
    """Set a share of each layer to zero, one layer at a time, and measure the effect by group.

    Parameters
    ----------
    task
        The model and its data.
    saliency
        The saliency of the first step, on training patients.
    pruned
        The number of weights that the chosen model lacks, by layer.
    """
    changes = {str(group): by_layer for group, by_layer in saliency.by_group.items()}
    batches = _draw_batches(task)
    layers = []
    with bar("checking the premise", len(saliency)) as advance:
        before = _mean_losses(task.model, task.loss, batches)
        for name, scores in saliency.items():
            least = _least_salient(scores, SHARE)
            after = _mean_losses(_masked_copy(task.model, {name: ~least}), task.loss, batches)
            layers.append(
                LayerRecord(
                    name=name,
                    size=scores.numel(),
                    pruned=pruned.get(name, 0),
                    saliency={g: float(h[name].sum()) for g, h in changes.items()},
                    predicted={g: float(h[name][least].sum()) for g, h in changes.items()},
                    measured={g: after[g] - before[g] for g in before},
                )
            )
            advance()
    correlation = {group: _correlation(layers, group) for group in task.positions}
    return PremiseRecord(
        layers=tuple(layers), correlation=correlation, samples=SAMPLES, share=SHARE
    )


def _draw_batches(task: PruneTask) -> list[GroupBatch]:
    order, _ = generators(task.settings.seed, 1, task.accelerator.device)
    size = task.settings.batch_size
    return list(group_batches(task.source, task.positions, -(-SAMPLES // size), size, order))


@torch.inference_mode()
def _mean_losses(
    model: Model, loss: nn.CrossEntropyLoss, batches: Sequence[GroupBatch]
) -> GroupNumbers:
    """Return each group's mean training loss, in evaluation mode."""
    model.eval()
    losses: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for batch in batches:
        logits = model(batch.inputs).double()
        batch_losses = sample_losses(loss, logits, batch.labels)
        batch_weights = sample_weights(loss, batch.labels, logits)
        zero = batch_losses.new_zeros(())
        for group, rows in batch.rows.items():
            losses[group] = losses.get(group, zero) + batch_losses[rows].sum()
            weights[group] = weights.get(group, zero) + batch_weights[rows].sum()
    return {group: float(losses[group] / weights[group]) for group in losses}


def _least_salient(scores: Tensor, share: float) -> Tensor:
    """Return a mask of the share of weights with the least saliency."""
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    count = max(1, round(share * scores.numel()))
    chosen[scores.reshape(-1).topk(count, largest=False).indices] = True
    return chosen.view(scores.shape)


def _masked_copy(model: Model, mask: WeightMask) -> Model:
    """Return a copy of a model with only the weights of a mask."""
    copy = deepcopy(model)
    apply_mask(copy, mask)
    return copy


def _correlation(layers: Sequence[LayerRecord], group: str) -> float | None:
    """Return Spearman's rank correlation over layers; None if it is undefined."""
    predicted = [layer.predicted[group] for layer in layers]
    measured = [layer.measured[group] for layer in layers]
    if len(layers) < FEWEST or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return None
    return float(spearmanr(predicted, measured).statistic)


def first_saliency(task: PruneTask) -> GroupSaliency:
    """Return the saliency of the untouched model, from the batches of the first step."""
    names = prunable_parameters(task.model, task.settings.structure, task.settings.prunable)
    h = step_curvature(task, task.model, names, 1)
    theta = {name: task.model.get_parameter(name).detach() for name in names}
    return GroupSaliency.compute(theta, h, task.roles.unprivileged, task.roles.betas)


def saliency_table(saliency: GroupSaliency, mask: WeightMask | None) -> pd.DataFrame:
    """Return the saliency of a sample of each layer's weights, and whether they were pruned.

    Parameters
    ----------
    saliency
        The saliency of the untouched model.
    mask
        The mask of the chosen model; None if whole channels were pruned.

    Returns
    -------
    pandas.DataFrame
        The columns of `GroupSaliency.sample`; with a mask also ``pruned``, 1 if the chosen model
        lacks the weight, else 0. At most 100 rows for each layer, fewer if there are more than 60.
    """
    most = min(max(TABLE_ROWS // len(saliency), LEAST_ROWS), MOST_ROWS)
    parts = []
    for name in saliency:
        part = saliency.sample(name, most)
        if mask is not None:
            part["pruned"] = 1 - mask[name].flatten().cpu().numpy()[part["place"]].astype(int)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    floats = table.select_dtypes("float").columns
    table[floats] = table[floats].map(_rounded)
    return table


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
