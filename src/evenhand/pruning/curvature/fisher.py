"""The empirical Fisher: a heuristic, since it draws no labels but takes those that there are."""

from __future__ import annotations

import torch

from evenhand.pruning.curvature.loss import PLAIN, Loss
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import Curvature
from evenhand.pruning.registry import register_estimator


@register_estimator("fisher")
def fisher(draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
    """Return the mean over samples of the squared gradient of the loss, in one backward pass.

    It is the Fisher information only where the labels are distributed as the model says; where
    the model is wrong it is large, curved or not (Kunstner et al., NeurIPS 2019). A class weight
    counts once, and not squared: it says how often a sample counts, as in the loss. At the minimum
    of a weighted loss this is its second derivative in expectation, and the square would not be.
    """
    return summed_squares(loss.residuals, loss)
