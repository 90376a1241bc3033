"""Heads of mitigation methods during training, and averaged weights after it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.cohort.store.batches import BatchProvider
from evenhand.methods.base import TrainingMethod
from evenhand.networks.model import Model
from evenhand.training.predict import to_unit_range


class GroupHeads(nn.Module):
    """K linear heads in parallel: all outputs in training mode, else their mean plus a shift.

    Parameters
    ----------
    first
        The head whose weights all K heads start with.
    heads
        Number of heads K.
    shift
        ``(C,)``, added to the mean of the logits in evaluation mode.
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
        """Return logits ``(B, K·C)`` in training mode, else their shifted mean ``(B, C)``."""
        outputs: Tensor = self.linear(features)
        if self.training:
            return outputs
        return outputs.view(len(outputs), self.heads, -1).mean(dim=1) + self.shift

    def joined(self) -> nn.Linear:
        """Return a linear layer equal to the shifted mean of the heads."""
        classes = self.linear.out_features // self.heads
        head = nn.Linear(self.linear.in_features, classes)
        with torch.no_grad():
            head.weight.copy_(self.linear.weight.view(self.heads, classes, -1).mean(dim=0))
            head.bias.copy_(self.linear.bias.view(self.heads, classes).mean(dim=0) + self.shift)
        return head


class ShiftedHead(nn.Module):
    """A linear head whose logits get a constant shift in evaluation mode.

    Parameters
    ----------
    first
        The linear layer.
    shift
        ``(C,)``, added to the logits.
    """

    shift: Tensor

    def __init__(self, first: nn.Linear, shift: Tensor) -> None:
        super().__init__()
        self.linear = first
        self.register_buffer("shift", shift)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(B, C)``; shifted in evaluation mode only."""
        logits: Tensor = self.linear(features)
        return logits if self.training else logits + self.shift

    def joined(self) -> nn.Linear:
        """Return a linear layer equal to the shifted head."""
        with torch.no_grad():
            self.linear.bias.add_(self.shift)
        return self.linear


def split_head(model: Model, method: TrainingMethod, classes: int) -> None:
    """Replace a model's head by the head that its method trains, if they differ."""
    heads, shift = method.head_outputs(classes) // classes, method.prior_shift()
    if heads > 1:
        head_shift = torch.zeros(classes) if shift is None else shift
        _replace_last(model, GroupHeads(_last_layer(model), heads, head_shift))
    elif shift is not None:
        _replace_last(model, ShiftedHead(_last_layer(model), shift))


def join_heads(model: Model) -> None:
    """Replace a method's head, if there is one, by a linear head with the same scores."""
    layer = model.head[-1] if isinstance(model.head, nn.Sequential) else model.head
    if isinstance(layer, GroupHeads | ShiftedHead):
        _replace_last(model, layer.joined())


def load_average(
    model: Model, average: Mapping[str, Tensor], train: BatchProvider, batch_size: int
) -> None:
    """Load averaged weights, and estimate the running statistics of normalisations for them.

    Parameters
    ----------
    model
        The trained model, on the device that trained it.
    average
        Name of a parameter → mean weights.
    train
        Training samples, from which the statistics are estimated.
    batch_size
        Samples per batch.
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
                model(to_unit_range(train.take(rows).inputs))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _last_layer(model: Model) -> nn.Linear:
    layer = model.head[-1] if isinstance(model.head, nn.Sequential) else model.head
    assert isinstance(layer, nn.Linear)
    return layer


def _replace_last(model: Model, layer: nn.Module) -> None:
    if isinstance(model.head, nn.Sequential):
        model.head[-1] = layer
    else:
        model.head = layer
