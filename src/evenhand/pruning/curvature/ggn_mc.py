"""The same diagonal by Monte Carlo: labels are drawn from the model's own predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.pruning.curvature.loss import PLAIN
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import Curvature
from evenhand.pruning.registry import register_estimator


@register_estimator("ggn-mc")
def ggn_mc(draws: int, rng: torch.Generator, loss: nn.CrossEntropyLoss = PLAIN) -> Curvature:
    """Return an unbiased estimate of :func:`~evenhand.pruning.curvature.ggn.ggn`.

    It takes one backward pass a batch and draw, however many classes there are: the mean square of
    the gradients of cross-entropy, with labels from the model's own softmax (Martens, JMLR 2020).
    """

    def directions(logits: Tensor, targets: Tensor) -> list[Tensor]:
        probability = logits.softmax(1)  # (B, C)
        drawn = torch.multinomial(
            probability.to(rng.device), draws, replacement=True, generator=rng
        )
        residual = [probability - F.one_hot(label, logits.shape[1]).to(logits) for label in drawn.T]
        return [one / draws**0.5 for one in residual]

    return summed_squares(directions, loss)
