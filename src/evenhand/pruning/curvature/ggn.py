"""The diagonal of the generalised Gauss-Newton matrix, exact over the classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evenhand.pruning.curvature.loss import PLAIN
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import Curvature
from evenhand.pruning.registry import register_estimator


@register_estimator("ggn")
def ggn(draws: int, rng: torch.Generator, loss: nn.CrossEntropyLoss = PLAIN) -> Curvature:
    """Return diag(Jᵀ S J), J the logits' Jacobian and S the loss's second derivative by them.

    It takes C - 1 backward passes a batch, C the number of classes. Where the network is piecewise
    linear it is the Hessian's diagonal.
    """
    return summed_squares(directions, loss)


def directions(logits: Tensor, targets: Tensor) -> list[Tensor]:
    """Return the C - 1 columns ``(B, C)`` of a factor of S = diag(p) - p pᵀ.

    Column k tells class k from those behind it: √(P(y = k | y ≥ k) P(y > k)) (e_k - P(· | y > k)),
    the closed form of the factor (Tanabe & Sagae, JRSS B 1992).
    """
    columns = []
    log_p = logits.log_softmax(1)  # (B, C)
    for k in range(logits.shape[1] - 1):
        here = logits[:, k:].softmax(1)[:, 0]  # P(y = k | y ≥ k)
        behind = log_p[:, k + 1 :].logsumexp(1).exp()  # P(y > k)
        column = torch.zeros_like(logits)
        column[:, k] = 1
        column[:, k + 1 :] = -logits[:, k + 1 :].softmax(1)
        columns.append(column * (here * behind).sqrt()[:, None])
    return columns
