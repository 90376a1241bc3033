"""Cross-entropy over a softmax: its weights, its second derivative and draws of labels.

With class weights w and label smoothing ε a sample of class y has the loss -Σ_c t_c log p_c with
t_c = (1 - ε) w_y [c = y] + ε w_c / C, and the mean over samples is Σ loss / Σ w_y, as in
`torch.nn.CrossEntropyLoss`. The second derivative by the logits is (Σ_c t_c)(diag(p) - p pᵀ).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.errors import EvenhandError


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Cross-entropy of logits ``(B, C)`` with classes ``(B,)``."""

    loss: nn.CrossEntropyLoss = field(default_factory=nn.CrossEntropyLoss)

    def check(self, model: nn.Module, logits: Tensor, labels: Tensor) -> None:
        """Raise EvenhandError for a single logit, or for labels that are no classes."""
        check_logits(model, logits)
        classes = logits.shape[1]
        if labels.dtype.is_floating_point or labels.ndim != 1:
            raise EvenhandError(
                f"cross-entropy takes labels (samples,) of whole numbers; the given labels are "
                f"{tuple(labels.shape)} of {labels.dtype}. Give classes from 0 to {classes - 1}, "
                "or loss='binary-cross-entropy'."
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise EvenhandError(
                f"labels run from {int(labels.min())} to {int(labels.max())}; with {classes} "
                f"logits, give labels from 0 to {classes - 1}."
            )

    def weights(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return w_y ``(B,)``."""
        return sample_weights(self.loss, labels, logits)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each sample's loss ``(B,)``."""
        return sample_losses(self.loss, logits, labels)

    def residuals(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return softmax minus targets, times √Σt."""
        total, targets = self._targets(logits, labels)
        return [(logits.softmax(1) - targets) * total.sqrt()]

    def factors(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the C - 1 columns of `softmax_factors`, times √Σt."""
        total, _ = self._targets(logits, labels)
        return [column * total.sqrt() for column in softmax_factors(logits)]

    def draw(
        self, logits: Tensor, labels: Tensor, draws: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Return softmax minus a drawn class, times √Σt, for each draw."""
        total, _ = self._targets(logits, labels)
        probability = logits.softmax(1)  # (B, C)
        drawn = torch.multinomial(
            probability.to(rng.device), draws, replacement=True, generator=rng
        )
        residual = [probability - F.one_hot(label, logits.shape[1]).to(logits) for label in drawn.T]
        return [part / draws**0.5 * total.sqrt() for part in residual]

    def _targets(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of each sample's targets ``(B, 1)``, and the targets over it."""
        targets = soft_targets(self.loss, labels, logits)
        total = targets.sum(1, keepdim=True)
        return total, targets / total.clamp(min=torch.finfo(total.dtype).tiny)


def softmax_factors(logits: Tensor) -> list[Tensor]:
    """Return the C - 1 columns ``(B, C)`` of a factor of S = diag(p) - p pᵀ.

    Column k is √(P(y = k | y ≥ k) P(y > k)) (e_k - P(· | y > k)), the closed form of the factor
    (Tanabe & Sagae, JRSS B 1992).
    """
    columns = []
    log_p = logits.log_softmax(1)  # (B, C)
    for k in range(logits.shape[1] - 1):
        conditional = logits[:, k:].softmax(1)[:, 0]  # P(y = k | y ≥ k)
        later = log_p[:, k + 1 :].logsumexp(1).exp()  # P(y > k)
        column = torch.zeros_like(logits)
        column[:, k] = 1
        column[:, k + 1 :] = -logits[:, k + 1 :].softmax(1)
        columns.append(column * (conditional * later).sqrt()[:, None])
    return columns


def class_weights(loss: nn.CrossEntropyLoss, like: Tensor) -> Tensor:
    """Return w ``(C,)`` for logits ``(B, C)``; ones if the loss has no class weights."""
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
    """Refuse a head with a single logit: its softmax is always 1, without any curvature.

    Raises
    ------
    EvenhandError
        If the logits are not ``(B, C)`` with C ≥ 2; the message names the last layer.
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
        "class, or take loss='binary-cross-entropy' if the model was trained with it."
    )
