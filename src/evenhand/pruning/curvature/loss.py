"""Losses with the derivatives that the estimators of curvature need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.errors import EvenhandError, pick


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Cross-entropy of logits ``(B, C)`` with classes ``(B,)``.

    With class weights w and label smoothing ε a sample of class y has the loss -Σ_c t_c log p_c
    with t_c = (1 - ε) w_y [c = y] + ε w_c / C, and the mean over samples is Σ loss / Σ w_y, as in
    `torch.nn.CrossEntropyLoss`. The second derivative by the logits is (Σ_c t_c)(diag(p) - p pᵀ).
    """

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


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy:
    """Binary cross-entropy of logits ``(B,)``, ``(B, 1)`` or ``(B, C)`` with labels 0 … 1.

    The loss of a sample is the mean over its C logits of -v (y log p + (1 - y) log(1 - p)) with v
    the weight of the label, as in `torch.nn.BCEWithLogitsLoss`. Its second derivative by the logits
    is diag(v p (1 - p)) / C.
    """

    loss: nn.BCEWithLogitsLoss = field(default_factory=nn.BCEWithLogitsLoss)

    def check(self, model: nn.Module, logits: Tensor, labels: Tensor) -> None:
        """Raise EvenhandError unless there is one label in 0 … 1 for each logit."""
        if logits.ndim not in (1, 2) or labels.numel() != logits.numel():
            raise EvenhandError(
                f"binary cross-entropy takes one label for each logit: the logits are "
                f"{tuple(logits.shape)}, the labels {tuple(labels.shape)}. For classes, take "
                "loss='cross-entropy'."
            )
        if labels.numel() and not 0 <= float(labels.min()) <= float(labels.max()) <= 1:
            raise EvenhandError(
                f"binary cross-entropy takes labels from 0 to 1; these run from "
                f"{float(labels.min()):g} to {float(labels.max()):g}."
            )

    def weights(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return ones ``(B,)``: the mean is over samples."""
        return torch.ones(len(logits), dtype=logits.dtype, device=logits.device)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each sample's loss ``(B,)``."""
        values = F.binary_cross_entropy_with_logits(
            logits,
            labels.view_as(logits).to(logits),
            None if self.loss.weight is None else self.loss.weight.to(logits),
            pos_weight=None if self.loss.pos_weight is None else self.loss.pos_weight.to(logits),
            reduction="none",
        )
        return values.flatten(1).mean(1) if values.ndim > 1 else values

    def residuals(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return p - y, times √(v / C)."""
        return [(logits.sigmoid() - labels.view_as(logits)) * self._share(logits, labels).sqrt()]

    def factors(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return one vector per logit: √(v p (1 - p) / C) at this logit, 0 at all other logits."""
        p = logits.sigmoid()
        root = (self._share(logits, labels) * p * (1 - p)).sqrt()
        if root.ndim == 1:
            return [root]
        places = torch.eye(root.shape[1], dtype=root.dtype, device=root.device)
        return [root * place for place in places]

    def draw(
        self, logits: Tensor, labels: Tensor, draws: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Return p minus drawn labels, times √(v / C), for each draw."""
        p = logits.sigmoid()
        scale = (self._share(logits, labels) / draws).sqrt()
        uniform = (torch.rand(p.shape, generator=rng, device=rng.device) for _ in range(draws))
        return [(p - (draw.to(p) < p).to(p)) * scale for draw in uniform]

    def _share(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return v / C, of the logits' shape."""
        y = labels.view_as(logits).to(logits)
        positive = 1.0 if self.loss.pos_weight is None else self.loss.pos_weight.to(logits)
        share = positive * y + (1 - y)
        if self.loss.weight is not None:
            share = share * self.loss.weight.to(logits)
        return share / (logits.shape[1] if logits.ndim > 1 else 1)


PLAIN = CrossEntropy()


class Loss(Protocol):
    """A loss of logits; gradients by the logits have the logits' shape."""

    def check(self, model: nn.Module, logits: Tensor, labels: Tensor) -> None:
        """Raise EvenhandError if the loss is not defined for such logits or labels."""

    def weights(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return the weight ``(B,)`` of each sample; the mean loss divides by their sum."""

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss ``(B,)`` of each sample."""

    def residuals(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the gradient of each sample's loss, scaled by the root of the sample's weight."""

    def factors(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return vectors whose outer products sum to each sample's second derivative."""

    def draw(
        self, logits: Tensor, labels: Tensor, draws: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Return gradients with drawn labels: their mean outer product is the second derivative."""


class OwnLoss:
    """A user's loss: a function of logits and labels that returns each sample's loss ``(B,)``."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function

    def check(self, model: nn.Module, logits: Tensor, labels: Tensor) -> None:
        """Accept everything: the function itself may refuse."""

    def weights(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones(len(logits), dtype=logits.dtype, device=logits.device)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the function's values ``(B,)``.

        Raises
        ------
        EvenhandError
            If the function does not return one number for each sample.
        """
        values = self._function(logits, labels)
        if not isinstance(values, Tensor) or values.shape != (len(logits),):
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise EvenhandError(
                f"loss= returns {shape} for {len(logits)} samples; give a function that returns "
                "one number for each sample (reduction='none')."
            )
        return values

    def residuals(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the gradient, by autograd."""
        with torch.enable_grad():
            variable = logits.detach().requires_grad_()
            return list(torch.autograd.grad(self.losses(variable, labels).sum(), variable))

    def factors(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Raise EvenhandError: the second derivative of a function is unknown."""
        raise _no_curvature()

    def draw(
        self, logits: Tensor, labels: Tensor, draws: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Raise EvenhandError: the second derivative of a function is unknown."""
        raise _no_curvature()


def _no_curvature() -> EvenhandError:
    return EvenhandError(
        "the estimators ggn and ggn-mc need the loss's second derivative, which is known only for "
        "'cross-entropy' and 'binary-cross-entropy', not for a function. Take the estimator "
        "hutchinson or fisher."
    )


def find_loss(loss: str | Callable[..., Any]) -> Loss:
    """Return the loss for a name, for an instance of torch's class, or for a function.

    Raises
    ------
    EvenhandError
        If no loss has that name, or if ``loss`` is neither a name nor callable.
    """
    if isinstance(loss, str):
        return pick("loss", loss, LOSSES)
    if isinstance(loss, nn.CrossEntropyLoss):
        return CrossEntropy(loss)
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return BinaryCrossEntropy(loss)
    if not callable(loss):
        raise EvenhandError(
            f"loss={loss!r}: give 'cross-entropy', 'binary-cross-entropy', torch's classes of "
            "these, or a function of logits and labels that returns the loss of each sample."
        )
    return OwnLoss(loss)


LOSSES: Mapping[str, Loss] = {
    "cross-entropy": PLAIN,
    "binary-cross-entropy": BinaryCrossEntropy(),
}
"""The losses by name."""
