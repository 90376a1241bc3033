"""The premise of the method, shown for one model: predicted against measured error changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from evenhand.jobs.prune.batches import generators, group_batches
from evenhand.jobs.prune.task import PruneTask
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.pruning.curvature import GroupBatch
from evenhand.pruning.curvature.softmax import sample_losses, sample_weights
from evenhand.pruning.masks import WeightMask, apply_mask
from evenhand.pruning.saliency import GroupSaliency

SAMPLES = 128  # of each group, on which error changes are measured
FEW = 3  # points below which a rank correlation says nothing
SHARE = 0.3  # of each layer that is zeroed to see what happens

ByGroup = dict[str, float]


@dataclass(frozen=True)
class PrunedLayer:
    """One pruned layer of the untouched model.

    Attributes
    ----------
    name, size, pruned
        The parameter's name, how many numbers it has, and how many of them were pruned.
    saliency
        Each group's predicted error change if all of it were zeroed, ½ Σ h θ².
    predicted, measured
        Each group's change of the mean of the loss that trained the model, when the share of least
        saliency is zeroed, as the second-order term predicts it and as measured.
    """

    name: str
    size: int
    pruned: int
    saliency: ByGroup
    predicted: ByGroup
    measured: ByGroup


@dataclass(frozen=True)
class Premise:
    """Every layer, and by group the rank correlation of predicted and measured changes."""

    layers: tuple[PrunedLayer, ...]
    correlation: Mapping[str, float | None]
    samples: int
    share: float


def check_premise(task: PruneTask, saliency: GroupSaliency, pruned: Mapping[str, int]) -> Premise:
    """Zero a share of each layer, one layer at a time, and measure the effect on each group.

    Saliency and samples are those of the first step, from training patients. ``pruned`` says how
    many numbers the chosen model has lost in each layer.
    """
    changes = {str(group): own for group, own in saliency.by_group.items()}
    batches = _samples(task)
    layers = []
    with bar("checking the premise", len(saliency)) as advance:
        before = _errors(task.model, task.loss, batches)
        for name, scores in saliency.items():
            gone = _smallest(scores, SHARE)
            after = _errors(_without(task.model, {name: ~gone}), task.loss, batches)
            layers.append(
                PrunedLayer(
                    name,
                    scores.numel(),
                    pruned.get(name, 0),
                    {group: float(own[name].sum()) for group, own in changes.items()},
                    {group: float(own[name][gone].sum()) for group, own in changes.items()},
                    {group: after[group] - before[group] for group in before},
                )
            )
            advance()
    correlation = {group: _correlation(layers, group) for group in task.positions}
    return Premise(tuple(layers), correlation, SAMPLES, SHARE)


def _samples(task: PruneTask) -> list[GroupBatch]:
    order, _ = generators(task.settings.seed, 1, task.accelerator.device)
    size = task.settings.batch_size
    return list(group_batches(task.source, task.positions, -(-SAMPLES // size), size, order))


@torch.inference_mode()
def _errors(model: Model, loss: nn.CrossEntropyLoss, batches: Sequence[GroupBatch]) -> ByGroup:
    """Return each group's mean of the loss that trained the model, in evaluation mode."""
    model.eval()
    losses: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for batch in batches:
        logits = model(batch.inputs).double()
        own = sample_losses(loss, logits, batch.labels)
        weight = sample_weights(loss, batch.labels, logits)
        for group, rows in batch.rows.items():
            losses[group] = losses.get(group, own.new_zeros(())) + own[rows].sum()
            weights[group] = weights.get(group, own.new_zeros(())) + weight[rows].sum()
    return {group: float(losses[group] / weights[group]) for group in losses}


def _smallest(scores: Tensor, share: float) -> Tensor:
    """Return a mask of the numbers of least saliency."""
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    count = max(1, round(share * scores.numel()))
    chosen[scores.reshape(-1).topk(count, largest=False).indices] = True
    return chosen.view(scores.shape)


def _without(model: Model, kept: WeightMask) -> Model:
    changed = deepcopy(model)
    apply_mask(changed, kept)
    return changed


def _correlation(layers: Sequence[PrunedLayer], group: str) -> float | None:
    """Return Spearman's rank correlation over layers; None for too few, or if one never varies."""
    predicted = [layer.predicted[group] for layer in layers]
    measured = [layer.measured[group] for layer in layers]
    if len(layers) < FEW or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return None
    return float(spearmanr(predicted, measured).statistic)
