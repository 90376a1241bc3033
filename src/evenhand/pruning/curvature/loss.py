"""The loss whose curvature is taken: what every estimator needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, pick
from evenhand.pruning.curvature.sigmoid import BinaryCrossEntropy
from evenhand.pruning.curvature.softmax import CrossEntropy

PLAIN = CrossEntropy()


class Loss(Protocol):
    """A loss of logits; every direction is a gradient of the logits' shape."""

    def check(self, model: nn.Module, logits: Tensor, labels: Tensor) -> None:
        """Refuse logits and labels that the loss is not for."""

    def weights(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return the weight ``(B,)`` of each sample; the mean loss divides by their sum."""

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss ``(B,)`` of each sample."""

    def residuals(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the gradient of each sample's own loss, where a weight counts once."""

    def factors(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return columns whose outer products add up to each sample's second derivative."""

    def draw(
        self, logits: Tensor, labels: Tensor, draws: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Return gradients with drawn labels: the mean outer product is the second derivative."""


class OwnLoss:
    """Any loss: a callable from logits and labels to the loss ``(B,)`` of each sample."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function

    def check(self, model: nn.Module, logits: Tensor, labels: Tensor) -> None:
        """Refuse nothing: the callable knows what it takes."""

    def weights(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones(len(logits), dtype=logits.dtype, device=logits.device)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what the callable gives.

        Raises
        ------
        EvenhandError
            It gives no number for each sample.
        """
        values = self._function(logits, labels)
        if not isinstance(values, Tensor) or values.shape != (len(logits),):
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise EvenhandError(
                f"loss= gives {shape} for {len(logits)} samples; give a callable that returns one "
                "number for each sample (reduction='none'), so that groups can be told apart."
            )
        return values

    def residuals(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the gradient by autograd."""
        with torch.enable_grad():
            variable = logits.detach().requires_grad_()
            return list(torch.autograd.grad(self.losses(variable, labels).sum(), variable))

    def factors(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Refuse: see the message."""
        raise _no_curvature()

    def draw(
        self, logits: Tensor, labels: Tensor, draws: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Refuse: see the message."""
        raise _no_curvature()


def _no_curvature() -> EvenhandError:
    return EvenhandError(
        "the estimators ggn and ggn-mc need the loss's second derivative, which is known for "
        "'cross-entropy' and 'binary-cross-entropy' and not for a callable. Take the estimator "
        "hutchinson, or fisher."
    )


def find_loss(loss: str | Callable[..., Any]) -> Loss:
    """Return a loss by its name, from torch's own class, or from a callable.

    Raises
    ------
    EvenhandError
        There is no loss of that name, or it is no callable.
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
            "these, or a callable from logits and labels to the loss of each sample."
        )
    return OwnLoss(loss)


LOSSES: Mapping[str, Loss] = {
    "cross-entropy": PLAIN,
    "binary-cross-entropy": BinaryCrossEntropy(),
}
"""The losses by name."""
