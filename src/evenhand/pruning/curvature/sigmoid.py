"""Binary cross-entropy over sigmoids: one logit, or one for each of several labels.

The loss of a sample is the mean over its C logits of -v (y log p + (1 - y) log(1 - p)) with v the
weight of the label, as in `torch.nn.BCEWithLogitsLoss`. Its second derivative by the logits is
diag(v p (1 - p)) / C.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.errors import EvenhandError


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy:
    """Binary cross-entropy of logits ``(B,)``, ``(B, 1)`` or ``(B, C)`` with labels 0 … 1."""

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
