"""What every estimator of curvature takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from evenhand.pruning.curvature.loss import PLAIN


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """Samples of every group that is compared, those of a group side by side."""

    inputs: Tensor  # (B, …) as the model takes them
    labels: Tensor  # (B,) int64
    rows: Mapping[str, slice]  # where each group's samples lie


Curvature = Callable[
    [nn.Module, Iterable[GroupBatch], Collection[str]], dict[str, dict[str, Tensor]]
]
"""From a model, batches and names of parameters to h: group → parameter → the second derivative of
the group's mean loss by each number in it, of the parameter's shape. Both groups are in one pass.
The model is put into evaluation mode and is otherwise left as it was.

Raises
------
EvenhandError
    The estimator cannot handle a layer that holds one of the parameters, or the model has one logit
    for two classes; the message names the layer.
"""


class Estimator(Protocol):
    """Makes a curvature; estimators that draw nothing ignore the draws and the generator."""

    def __call__(
        self, draws: int, rng: torch.Generator, loss: nn.CrossEntropyLoss = PLAIN
    ) -> Curvature:
        """Return the curvature of a loss, from ``draws`` draws for each sample."""
        ...
