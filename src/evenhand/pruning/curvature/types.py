"""What every estimator of curvature takes and gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from evenhand.networks.calling import Forward, call
from evenhand.pruning.curvature.loss import PLAIN, Loss

ADVICE = (
    "\nTake the estimator hutchinson (--estimator hutchinson), which handles any layer; where "
    "single weights are pruned (--structure weight), it can be left out of them, too."
)
"""What to do about a layer that an estimator cannot handle."""


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """Samples of every group that is compared, those of a group side by side."""

    inputs: Any  # (B, …) as the model takes them: a tensor, or a tuple or mapping of tensors
    labels: Tensor  # (B,) int64, or as the loss takes them
    rows: Mapping[Any, slice]  # where each group's samples lie


class Curvature(Protocol):
    """Second derivatives of a model's loss by group."""

    def __call__(
        self,
        model: nn.Module,
        batches: Iterable[GroupBatch],
        names: Collection[str],
        forward: Forward = call,
    ) -> dict[Any, dict[str, Tensor]]:
        """Return h: group → parameter → the second derivative of the group's mean loss.

        It is that by each number in the parameter, of the parameter's shape. All groups are in one
        pass. The model is put into evaluation mode and is otherwise left as it was.

        Raises
        ------
        EvenhandError
            The estimator cannot handle a layer that holds one of the parameters, or the loss takes
            no such logits; the message names the layer.
        """
        ...


class Estimator(Protocol):
    """Makes a curvature; estimators that draw nothing ignore the draws and the generator."""

    def __call__(self, draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
        """Return the curvature of a loss, from ``draws`` draws for each sample."""
        ...
