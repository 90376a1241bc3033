"""The empirical Fisher: a heuristic that uses the true labels instead of drawn ones."""

from __future__ import annotations

import torch

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
