"""The diagonal of the generalised Gauss-Newton matrix, exact over the classes."""

from __future__ import annotations

import torch

from evenhand.pruning.curvature.loss import PLAIN, Loss
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import Curvature
from evenhand.pruning.registry import register_estimator


@register_estimator("ggn")
def ggn(draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
    """Return diag(Jᵀ S J): J is the logits' Jacobian, S the loss's second derivative by the logits.

    It takes C - 1 backward passes a batch for C classes. For a piecewise linear network it equals
    the diagonal of the Hessian.
    """
    return summed_squares(loss.factors, loss)
