"""The diagonal of the generalised Gauss-Newton matrix by Monte Carlo, from drawn labels."""

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

    The estimate is the mean squared gradient of cross-entropy with labels drawn from the model's
    own softmax (Martens, JMLR 2020). It takes one backward pass per batch and draw, whatever the
    number of classes.
    """

    def directions(logits: Tensor, labels: Tensor) -> list[Tensor]:
        return loss.draw(logits, labels, draws, rng)

    return summed_squares(directions, loss)
