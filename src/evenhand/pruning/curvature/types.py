"""Types of the estimators of curvature: their batches, their results, the estimators themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from evenhand.networks.calling import Forward, call
from evenhand.pruning.curvature.loss import PLAIN, Loss

ADVICE = (
    "\nTake the estimator hutchinson (--estimator hutchinson), which handles any layer; with "
    "--structure weight, you can also leave the layer out."
)
"""Advice of messages about a layer that an estimator cannot handle."""


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """A batch of samples, in which the samples of each group are adjacent."""

    inputs: Any  # (B, …) as the model takes them: a tensor, or a tuple or mapping of tensors
    labels: Tensor  # (B,) int64, or as the loss takes them
    rows: Mapping[Any, slice]  # group → its samples


class Curvature(Protocol):
    """Function that returns second derivatives of a model's loss by group."""

    def __call__(
        self,
        model: nn.Module,
        batches: Iterable[GroupBatch],
        names: Collection[str],
        forward: Forward = call,
    ) -> dict[Any, dict[str, Tensor]]:
        """Return h: group → parameter → second derivatives of the group's mean loss.

        ``names`` are the parameters' names. The derivatives have the parameter's shape: one second
        derivative for each of its scalars. One pass over the batches serves all groups. The model
        is put into evaluation mode and not changed otherwise.

        Raises
        ------
        EvenhandError
            If the estimator cannot handle a layer that holds one of the parameters, or if the loss
            is not defined for the logits; the message names the layer.
        """
        ...


class Estimator(Protocol):
    """Function that returns a `Curvature`; an exact one ignores ``draws`` and ``rng``."""

    def __call__(self, draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
        """Return the curvature function of a loss, with ``draws`` draws for each sample."""
        ...
