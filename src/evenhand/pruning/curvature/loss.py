"""The loss whose curvature is taken: the cross-entropy that trained the model.

With class weights w and label smoothing ε a sample of class y has the loss -Σ_c t_c log p_c with
t_c = (1 - ε) w_y [c = y] + ε w_c / C, and the mean over samples is Σ loss / Σ w_y, as
`torch.nn.CrossEntropyLoss` has it. The second derivative by the logits is
(Σ_c t_c)(diag(p) - p pᵀ).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.errors import EvenhandError

PLAIN = nn.CrossEntropyLoss()


def class_weights(loss: nn.CrossEntropyLoss, like: Tensor) -> Tensor:
    """Return w ``(C,)`` for logits ``(B, C)``, 1 where the loss has no class weights."""
    if loss.weight is None:
        return torch.ones(like.shape[1], dtype=like.dtype, device=like.device)
    return loss.weight.to(like)


def soft_targets(loss: nn.CrossEntropyLoss, labels: Tensor, like: Tensor) -> Tensor:
    """Return t ``(B, C)`` of each sample, for logits ``(B, C)``."""
    weight = class_weights(loss, like)
    hard = F.one_hot(labels, like.shape[1]).to(like) * weight
    return (1 - loss.label_smoothing) * hard + loss.label_smoothing / like.shape[1] * weight


def sample_weights(loss: nn.CrossEntropyLoss, labels: Tensor, like: Tensor) -> Tensor:
    """Return w_y ``(B,)`` of each sample; the mean loss divides by their sum."""
    return class_weights(loss, like)[labels]


def sample_losses(loss: nn.CrossEntropyLoss, logits: Tensor, labels: Tensor) -> Tensor:
    """Return each sample's loss ``(B,)``, in the precision of the logits."""
    weight = None if loss.weight is None else loss.weight.to(logits)
    return F.cross_entropy(
        logits, labels, weight, reduction="none", label_smoothing=loss.label_smoothing
    )


def check_logits(model: nn.Module, logits: Tensor) -> None:
    """Refuse a head whose cross-entropy has no curvature: one logit has a softmax of 1 always.

    Raises
    ------
    EvenhandError
        The logits are not ``(B, C)`` with C of 2 and more; the message names the last layer.
    """
    if logits.ndim == 2 and logits.shape[1] > 1:
        return
    heads = [
        (name, layer) for name, layer in model.named_modules() if list(layer.parameters(False))
    ]
    name, layer = heads[-1] if heads else ("", model)
    raise EvenhandError(
        f"the head {name or type(model).__name__} ({type(layer).__name__}) gives logits of shape "
        f"{tuple(logits.shape)}; cross-entropy needs (samples, classes) with two classes or more. "
        "With a single logit every second derivative is 0. Give the head one output for each "
        "class; for two classes, append a constant 0 to the single logit."
    )
