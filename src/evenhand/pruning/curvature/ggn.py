"""The diagonal of the generalised Gauss-Newton matrix, exact over the classes."""

from __future__ import annotations

import torch

from evenhand.pruning.curvature.loss import PLAIN, Loss
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import Curvature
from evenhand.pruning.registry import register_estimator


@register_estimator("ggn")
def ggn(draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
    """Return diag(Jᵀ S J), J the logits' Jacobian and S the loss's second derivative by them.

    It takes C - 1 backward passes a batch, C the number of classes. Where the network is piecewise
    linear it is the Hessian's diagonal.
    """
    return summed_squares(loss.factors, loss)
