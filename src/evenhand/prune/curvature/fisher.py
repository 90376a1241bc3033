"""The empirical Fisher: a heuristic, since it draws no labels but takes those that there are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.prune.curvature.taps import summed_squares
from evenhand.prune.curvature.types import Curvature


def fisher(draws: int, rng: torch.Generator) -> Curvature:
    """Return the mean over samples of the squared gradient of the loss, in one backward pass.

    It is the Fisher information only where the labels are distributed as the model says; where
    the model is wrong it is large, curved or not (Kunstner et al., NeurIPS 2019).
    """
    return summed_squares(directions)


def directions(logits: Tensor, labels: Tensor) -> list[Tensor]:
    """Return the gradient ``(B, C)`` of each sample's cross-entropy."""
    return [logits.softmax(1) - F.one_hot(labels, logits.shape[1]).to(logits)]
