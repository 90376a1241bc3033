"""Conditional adversary: features that, given the label, do not predict the group.

Misleads if the discriminator is weak: its failure does not show that features carry no information
about the group. A new probe of the features shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Rows, require_labels
from evenhand.methods.base import Count, NotNegative, Positive, TrainingMethod
from evenhand.methods.ranges import Between


class Cdann(TrainingMethod):
    """Train against a discriminator that predicts the group from features and label.

    Parameters
    ----------
    strength
        Factor of the adversary's gradient, λ; 0 is empirical risk minimisation.
    ramp
        Steps in which λ rises to ``strength``.
    penalty
        Factor of the mean squared gradient of the discriminator's loss by the features. Without
        this penalty the discriminator grows until its gradient vanishes.
    steps
        Discriminator steps for each step of the network.
    width
        Hidden units of the discriminator.
    lr
        Learning rate of the discriminator.
    seed
        Seed of its initial weights.

    Notes
    -----
    Li et al. (ECCV 2018, conditional adversary); the ramp 2/(1 + e^(−10 t)) − 1 is that of Ganin
    et al. (JMLR 2016). Rows are weighted by 1/n_{y,a}: then chance is the same for every group.
    """

    needs_attribute = True
    needs_features = True
    ranges = MappingProxyType({"strength": Between(0.1, 10.0)})
    by = "label*attribute"

    def __init__(
        self,
        strength: NotNegative = 1.0,
        *,
        ramp: Annotated[int, Field(ge=0)] = 100,
        penalty: NotNegative = 1.0,
        steps: Count = 1,
        width: Annotated[int, Field(ge=1, le=65536)] = 64,
        lr: Positive = 1e-3,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    ) -> None:
        super().__init__()
        self.strength, self.ramp, self.penalty, self.steps = strength, ramp, penalty, steps
        self.width, self.lr, self.seed = width, lr, seed
        self.steps_taken = 0
        self.discriminator: nn.Sequential | None = None
        self._optimizer: torch.optim.Adam | None = None
        self._pending: Mapping[str, Any] | None = None

    def check(self, rows: Rows) -> None:
        """Raise EvenhandError if a group lacks a label."""
        require_labels(rows, "cdann")

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy minus λ times the discriminator's loss."""
        plain = self.plain_loss(logits, labels)
        if not self.strength:
            return plain
        features, labels = self.check_features(features, labels), labels.long()
        groups = self.check_codes(groups, labels)
        has_group = groups >= 0
        if not has_group.any():
            return plain
        inputs, label, level = features[has_group].float(), labels[has_group], groups[has_group]
        if torch.is_grad_enabled():
            for _ in range(self.steps):
                self._train_discriminator(inputs.detach(), label, level)
            self.steps_taken += 1
        return plain - self._factor() * self._adversary(inputs, label, level)

    def _factor(self) -> float:
        progress = min(1.0, self.steps_taken / max(1, self.ramp))
        return self.strength * (2 / (1 + math.exp(-10 * progress)) - 1)

    def _adversary(self, features: Tensor, labels: Tensor, levels: Tensor) -> Tensor:
        """Return the discriminator's weighted cross-entropy, a scalar."""
        cells = self.training_groups()
        output = self._network(features)(features).view(len(features), cells.classes, -1)
        label_logits = output[torch.arange(len(features), device=features.device), labels]
        losses = functional.cross_entropy(label_logits, levels, reduction="none")
        weights = 1 / cells.sizes.to(features)[cells.numbers(labels, levels)]
        return (weights * losses).sum() / weights.sum()

    def _train_discriminator(self, features: Tensor, labels: Tensor, levels: Tensor) -> None:
        features = features.requires_grad_()
        loss = self._adversary(features, labels, levels)
        (gradient,) = torch.autograd.grad(loss, features, create_graph=True)
        penalty = self.penalty * (gradient * len(features)).square().sum(dim=1).mean()
        assert self._optimizer is not None
        self._optimizer.zero_grad()
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _network(self, features: Tensor) -> nn.Sequential:
        """Return the discriminator, which is made for the width of the first features."""
        if self.discriminator is None:
            cells = self.training_groups()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.discriminator = nn.Sequential(
                    nn.Linear(features.shape[1], self.width),
                    nn.ReLU(),
                    nn.Linear(self.width, cells.classes * len(cells.levels)),
                ).to(features.device)
            self._optimizer = torch.optim.Adam(self.discriminator.parameters(), self.lr)
            if self._pending is not None:
                self.discriminator.load_state_dict(self._pending["discriminator"])
                self._optimizer.load_state_dict(self._pending["optimizer"])
        width = self.discriminator[0].in_features
        if features.shape[1] != width:
            raise EvenhandError(
                f"features: {features.shape[1]} columns, but earlier batches had {width}; give the "
                "features of the same layer in all batches."
            )
        return self.discriminator

    def state_dict(self) -> dict[str, Any]:
        """Return the discriminator, its optimiser and the number of steps."""
        if self.discriminator is None or self._optimizer is None:
            return {**(self._pending or {}), "taken": self.steps_taken}
        return {
            "taken": self.steps_taken,
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the discriminator, its optimiser and the number of steps."""
        super().load_state_dict(state)
        self.steps_taken = int(state["taken"])
        self._pending = state if "discriminator" in state else None


METHOD = Cdann
