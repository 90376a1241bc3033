"""The same diagonal by Monte Carlo: labels are drawn from the model's own predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from evenhand.pruning.curvature.loss import PLAIN, Loss
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import Curvature
from evenhand.pruning.registry import register_estimator


@register_estimator("ggn-mc")
def ggn_mc(draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
    """Return an unbiased estimate of :func:`~evenhand.pruning.curvature.ggn.ggn`.

    It takes one backward pass a batch and draw, however many classes there are: the mean square of
    the gradients of cross-entropy, with labels from the model's own softmax (Martens, JMLR 2020).
    """

    def directions(logits: Tensor, labels: Tensor) -> list[Tensor]:
        return loss.draw(logits, labels, draws, rng)

    return summed_squares(directions, loss)
