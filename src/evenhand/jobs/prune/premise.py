"""The saliency of the untouched model, and the check of FairPrune's premise.

The premise is that saliency predicts the change of a group's loss: predicted changes are compared
with measured ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

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
from evenhand.pruning.curvature.softmax import sample_losses, sample_weights
from evenhand.pruning.masks import WeightMask, apply_mask, prunable_parameters
from evenhand.pruning.saliency import GroupSaliency

SAMPLES = 128  # samples of each group on which changes of loss are measured
FEWEST = 3  # layers that a rank correlation needs
SHARE = 0.3  # share of each layer's weights that is set to zero
TABLE_ROWS = 6000  # rows of the table of saliency over all layers, about
LEAST_ROWS, MOST_ROWS = 10, 100  # rows of a layer in that table

ByGroup = dict[str, float]
"""A value for each group."""


@dataclass(frozen=True)
class PrunedLayer:
    """One pruned layer of the untouched model.

    Attributes
    ----------
    name
        The parameter's name.
    size, pruned
        The number of weights, and of those that the chosen model lacks.
    saliency
        Each group's predicted change of loss if the whole layer were zero, ½ Σ h θ².
    predicted, measured
        Each group's change of the mean training loss if the least salient share of the layer is set
        to zero: as the second-order term predicts it, and as measured.
    """

    name: str
    size: int
    pruned: int
    saliency: ByGroup
    predicted: ByGroup
    measured: ByGroup


@dataclass(frozen=True)
class Premise:
    """The layers, and the rank correlation of predicted and measured changes in each group.

    ``samples`` is the number of samples of each group, ``share`` the share of each layer that is
    set to zero.
    """

    layers: tuple[PrunedLayer, ...]
    correlation: Mapping[str, float | None]
    samples: int
    share: float


def check_premise(task: PruneTask, saliency: GroupSaliency, pruned: Mapping[str, int]) -> Premise:
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
                PrunedLayer(
                    name,
                    scores.numel(),
                    pruned.get(name, 0),
                    {group: float(change[name].sum()) for group, change in changes.items()},
                    {group: float(change[name][least].sum()) for group, change in changes.items()},
                    {group: after[group] - before[group] for group in before},
                )
            )
            advance()
    correlation = {group: _correlation(layers, group) for group in task.positions}
    return Premise(tuple(layers), correlation, SAMPLES, SHARE)


def _draw_batches(task: PruneTask) -> list[GroupBatch]:
    order, _ = generators(task.settings.seed, 1, task.accelerator.device)
    size = task.settings.batch_size
    return list(group_batches(task.source, task.positions, -(-SAMPLES // size), size, order))


@torch.inference_mode()
def _mean_losses(model: Model, loss: nn.CrossEntropyLoss, batches: Sequence[GroupBatch]) -> ByGroup:
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


def _correlation(layers: Sequence[PrunedLayer], group: str) -> float | None:
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
