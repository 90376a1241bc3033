"""Heads by group during training, and averaged weights after it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.cohort.store.batches import BatchProvider
from evenhand.methods.base import TrainingMethod
from evenhand.networks.model import Model
from evenhand.training.predict import unit


class GroupHeads(nn.Module):
    """K linear heads side by side: all outputs while training, their mean when scoring.

    Parameters
    ----------
    first
        The head that every copy starts from.
    heads
        Number of heads K.
    shift
        ``(C,)`` what the mean is raised by when it scores.
    """

    shift: Tensor

    def __init__(self, first: nn.Linear, heads: int, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.heads = heads
        self.linear = nn.Linear(first.in_features, heads * first.out_features)
        with torch.no_grad():
            self.linear.weight.copy_(first.weight.repeat(heads, 1))
            self.linear.bias.copy_(first.bias.repeat(heads))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, K·C)`` in training mode, else the raised mean over heads ``(B, C)``."""
        outputs: Tensor = self.linear(features)
        if self.training:
            return outputs
        return outputs.view(len(outputs), self.heads, -1).mean(dim=1) + self.shift

    def joined(self) -> nn.Linear:
        """Return the one linear layer that gives the raised mean of the heads."""
        classes = self.linear.out_features // self.heads
        head = nn.Linear(self.linear.in_features, classes)
        with torch.no_grad():
            head.weight.copy_(self.linear.weight.view(self.heads, classes, -1).mean(dim=0))
            head.bias.copy_(self.linear.bias.view(self.heads, classes).mean(dim=0) + self.shift)
        return head


class ShiftedHead(nn.Module):
    """A linear head whose logits are raised by a constant when it scores.

    Parameters
    ----------
    first
        The head that it starts from.
    shift
        ``(C,)``.
    """

    shift: Tensor

    def __init__(self, first: nn.Linear, shift: Tensor) -> None:
        super().__init__()
        self.linear = first
        self.register_buffer("shift", shift)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(B, C)``; raised in evaluation mode only."""
        logits: Tensor = self.linear(features)
        return logits if self.training else logits + self.shift

    def joined(self) -> nn.Linear:
        """Return the one linear layer that gives the raised logits."""
        with torch.no_grad():
            self.linear.bias.add_(self.shift)
        return self.linear


def split_head(model: Model, method: TrainingMethod, classes: int) -> None:
    """Replace a model's head by what its method trains."""
    heads, shift = method.head_outputs(classes) // classes, method.prior_shift()
    if heads > 1:
        raised = torch.zeros(classes) if shift is None else shift
        _replace_last(model, GroupHeads(_last(model), heads, raised))
    elif shift is not None:
        _replace_last(model, ShiftedHead(_last(model), shift))


def join_heads(model: Model) -> None:
    """Replace a head of a method's own, if there is one, by the linear head that scores alike."""
    last = model.head[-1] if isinstance(model.head, nn.Sequential) else model.head
    if isinstance(last, GroupHeads | ShiftedHead):
        _replace_last(model, last.joined())


def load_average(
    model: Model, average: Mapping[str, Tensor], train: BatchProvider, batch_size: int
) -> None:
    """Load averaged weights, and estimate the statistics of normalisations for them again.

    Parameters
    ----------
    model
        The trained model, on the device that trained it.
    average
        Mean weights by the names of the parameters.
    train
        Training samples, which the statistics are estimated from.
    batch_size
        Samples a batch.
    """
    for name, parameter in model.named_parameters():
        parameter.data.copy_(average[name])
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats and norm.training]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for start in range(0, len(train), batch_size):
            rows = np.arange(start, min(start + batch_size, len(train)))
            if len(rows) > 1:
                model(unit(train.take(rows).inputs))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _last(model: Model) -> nn.Linear:
    last = model.head[-1] if isinstance(model.head, nn.Sequential) else model.head
    assert isinstance(last, nn.Linear)
    return last


def _replace_last(model: Model, layer: nn.Module) -> None:
    if isinstance(model.head, nn.Sequential):
        model.head[-1] = layer
    else:
        model.head = layer
