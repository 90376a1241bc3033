"""Soft equalised odds: a penalty or constraint on differences of mean scores by group.

Misleads if only the gap is read: a strong penalty closes it by serving every group worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Rows, require_labels
from evenhand.methods.base import NotNegative, TrainingMethod, group_means
from evenhand.methods.ranges import Between


class SoftEodds(TrainingMethod):
    """Penalise differences between groups in the mean score of rows with the same label.

    Parameters
    ----------
    strength
        Factor of the penalty; 0 is empirical risk minimisation. A larger factor brings the groups
        closer and costs each of them AUC.
    tolerance
        If given, differences are constrained to at most this (augmented Lagrangian): multipliers
        grow after each epoch, and ``strength`` is the factor of the quadratic term.
    labels
        ``both`` for equalised odds, ``positive`` for equal opportunity.
    memory
        Share of the running means that comes from earlier batches, 0 or more and below 1. Means
        of few rows are noisy, and a penalty on their squares pushes towards constant scores;
        running means lag behind the network, which overshoots if ``strength`` is large.

    Notes
    -----
    With p the score, d_{y,a} = mean(p | y, a) − mean(p | y). The penalty is strength · Σ d². The
    constrained form follows Lokhande et al. (ECCV 2020, arXiv 2004.01355). With multipliers m and
    e = max(0, |d| − tolerance), it is Σ m d + strength/2 · Σ e², and after each epoch
    m ← m + strength · sign(d) · e.

    Raises
    ------
    EvenhandError
        If ``memory`` is below 0, or 1 or more.
    """

    needs_attribute = True
    ranges = MappingProxyType({"strength": Between(0.1, 30.0)})

    by = "label*attribute"

    def __init__(
        self,
        strength: NotNegative = 2.0,
        tolerance: NotNegative | None = None,
        *,
        labels: Literal["both", "positive"] = "both",
        memory: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= memory < 1:
            raise EvenhandError(f"soft-eodds: memory is {memory}; give 0 or more, and less than 1.")
        self.strength, self.tolerance, self.memory = strength, tolerance, memory
        self.only_positive = labels == "positive"
        self.means = torch.zeros(0)  # (K·2,) running mean score of each group
        self.observed = torch.zeros(0, dtype=torch.bool)
        self.multipliers = torch.zeros(0)

    def check(self, rows: Rows) -> None:
        """Raise EvenhandError for more than two classes, or if a group lacks a label."""
        cells = self.training_groups()
        if cells.classes != 2:
            raise EvenhandError(f"soft-eodds is for two classes; there are {cells.classes}.")
        require_labels(rows, "soft-eodds")
        if len(self.means) != len(cells):
            self.means = torch.zeros(len(cells))
            self.observed = torch.zeros(len(cells), dtype=torch.bool)
            self.multipliers = torch.zeros(len(cells) // 2, 1 if self.only_positive else 2)

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy and the penalty of a batch."""
        plain = self.plain_loss(logits, labels)
        if not self.strength:
            return plain
        if logits.shape[1] != 2:
            raise EvenhandError(
                f"logits: shape {tuple(logits.shape)}; soft-eodds is for two classes: give two "
                "columns."
            )
        return plain + self.penalty(logits, labels.long(), groups)

    def penalty(self, logits: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
        """Update the running means by a batch, and return the penalty on their differences."""
        scores = logits.softmax(dim=1)[:, 1]
        numbers = self.training_groups().numbers(labels, self.check_codes(groups, labels))
        means, sizes = group_means(scores, numbers, len(self.means))
        present = sizes > 0
        keep = self.memory * self.observed.to(means)
        before = self.means.to(means)
        running = torch.where(present, (1 - keep) * means + keep * before, before)
        observed = self.observed | present.cpu()
        if torch.is_grad_enabled():  # in training, and not when a validation loss is computed
            self.means, self.observed = running.detach().cpu(), observed
        differences = self._differences(running, observed.to(means.device))
        # A running mean has the gradient of the batch's mean times 1 - memory; undo this factor.
        full = differences.new_ones(())
        scale = torch.where(keep.any(), full / (1 - self.memory), full)
        if self.tolerance is None:
            return self.strength * scale * differences.square().sum()
        excess = (differences.abs() - self.tolerance).clamp(min=0)
        lagrange = (self.multipliers.to(differences) * differences).sum()
        return scale * (lagrange + self.strength / 2 * excess.square().sum())

    def _differences(self, means: Tensor, observed: Tensor) -> Tensor:
        """Return the groups' differences ``(K, 2)`` from the mean of all rows with the same label.

        A group without rows of that label so far has the difference 0.
        """
        sizes = self.training_groups().sizes.to(means).view(-1, 2) * observed.view(-1, 2)
        table = means.view(-1, 2)
        label_means = (table * sizes).sum(dim=0) / sizes.sum(dim=0).clamp(min=1)
        differences = (table - label_means) * (sizes > 0)
        return differences[:, 1:] if self.only_positive else differences

    def after_epoch(self) -> Mapping[str, float]:
        """Increase the multipliers by the remaining differences; return the largest difference."""
        differences = self._differences(self.means, self.observed)
        if self.tolerance is not None:
            excess = differences.sign() * (differences.abs() - self.tolerance).clamp(min=0)
            self.multipliers = self.multipliers + self.strength * excess
        return {"largest difference of mean scores": float(differences.abs().max())}

    def state_dict(self) -> dict[str, Any]:
        """Return running means and multipliers."""
        return {"means": self.means, "seen": self.observed, "multipliers": self.multipliers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the running means and the multipliers from a saved state."""
        super().load_state_dict(state)
        self.means, self.observed = state["means"].clone(), state["seen"].clone()
        self.multipliers = state["multipliers"].clone()


METHOD = SoftEodds
