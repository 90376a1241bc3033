"""Diagonals from squared gradients: Fisher; Gauss-Newton, exact or estimated by drawn labels."""

from __future__ import annotations

import torch
from torch import Tensor

from evenhand.pruning.curvature.loss import PLAIN, Loss
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import Curvature
from evenhand.pruning.registry import register_estimator


@register_estimator("fisher")
def fisher(draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
    """Return the mean over samples of the squared gradient of the loss, in one backward pass.

    It equals the Fisher information only if the labels follow the model's distribution. Where the
    model is wrong, it is large even if the loss is flat (Kunstner et al., NeurIPS 2019). A class
    weight multiplies the squared gradient once, as it multiplies the loss; then, at the minimum of
    a weighted loss, the expectation is the second derivative, which a squared weight would not
    give.
    """
    return summed_squares(loss.residuals, loss)


@register_estimator("ggn")
def ggn(draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
    """Return diag(Jᵀ S J): J is the logits' Jacobian, S the loss's second derivative by the logits.

    It takes C - 1 backward passes a batch for C classes. For a piecewise linear network it equals
    the diagonal of the Hessian.
    """
    return summed_squares(loss.factors, loss)


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
