"""Soft equalised odds: a penalty, or a constraint, on differences of mean scores by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Rows, require_labels
from evenhand.methods.base import TrainingMethod, group_means


class SoftEodds(TrainingMethod):
    """Penalise that the mean score of a label differs from group to group.

    Parameters
    ----------
    strength
        Factor of the penalty; 0 is empirical risk minimisation.
    tolerance
        With a tolerance, the differences are held within it (augmented Lagrangian) instead:
        multipliers grow after each epoch, and ``strength`` is the factor of the quadratic term.
    labels
        ``both`` for equalised odds, ``positive`` for equal opportunity.
    memory
        Share of the running means that earlier batches keep, 0 … 1. Means of few rows are noisy,
        and a penalty on their squares would push towards constant scores.

    Notes
    -----
    With p the score, d_{y,a} = mean(p | y, a) − mean(p | y). The penalty is strength · Σ d². The
    constrained form follows Lokhande et al. (ECCV 2020, arXiv 2004.01355):
    Σ m d + strength/2 · Σ max(0, |d| − tolerance)², and after each epoch m ← m + strength · d.
    """

    needs_attribute = True
    two_classes = True

    by = "label*attribute"

    def __init__(
        self,
        strength: float = 1.0,
        tolerance: float | None = None,
        *,
        labels: Literal["both", "positive"] = "both",
        memory: float = 0.9,
    ) -> None:
        super().__init__()
        self.strength, self.tolerance, self.memory = strength, tolerance, memory
        self.only_positive = labels == "positive"
        self.means = torch.zeros(0)  # (K·2,) running mean score of each group
        self.seen = torch.zeros(0, dtype=torch.bool)
        self.multipliers = torch.zeros(0)

    def check(self, rows: Rows) -> None:
        """Refuse more than two classes, and groups without both labels."""
        cells = self.known_cells()
        if cells.classes != 2:
            raise EvenhandError(f"soft-eodds is for two classes; there are {cells.classes}.")
        require_labels(rows, "soft-eodds")
        if len(self.means) != len(cells):
            self.means = torch.zeros(len(cells))
            self.seen = torch.zeros(len(cells), dtype=torch.bool)
            self.multipliers = torch.zeros(len(cells) // 2, 1 if self.only_positive else 2)

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy and the penalty of a batch."""
        plain = self.plain_loss(logits, labels)
        if not self.strength:
            return plain
        return plain + self.penalty(logits, labels, groups)

    def penalty(self, logits: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
        """Return the penalty on the differences of a batch and, with memory, of those before it."""
        scores = logits.softmax(dim=1)[:, 1]
        numbers = self.known_cells().of(labels, groups)
        means, present = group_means(scores, numbers, len(self.means))
        keep = self.memory * self.seen.to(means)
        running = torch.where(present, (1 - keep) * means + keep * self.means.to(means), 0.0)
        running = torch.where(present, running, self.means.to(means))
        self.means, self.seen = running.detach().cpu(), self.seen | present.cpu()
        apart = self._differences(running, self.seen.to(means.device))
        scale = 1 / (1 - self.memory) if bool(keep.any()) else 1.0
        if self.tolerance is None:
            return self.strength * scale * apart.square().sum()
        over = (apart.abs() - self.tolerance).clamp(min=0)
        lagrange = (self.multipliers.to(apart) * apart).sum()
        return scale * (lagrange + self.strength / 2 * over.square().sum())

    def _differences(self, means: Tensor, seen: Tensor) -> Tensor:
        """Return ``(K, 2)`` differences from the label's mean over groups; 0 where unseen."""
        sizes = self.known_cells().sizes.to(means).view(-1, 2) * seen.view(-1, 2)
        table = means.view(-1, 2)
        of_label = (table * sizes).sum(dim=0) / sizes.sum(dim=0).clamp(min=1)
        apart = (table - of_label) * (sizes > 0)
        return apart[:, 1:] if self.only_positive else apart

    def after_epoch(self) -> Mapping[str, float]:
        """Let the multipliers grow by the differences that are left; return the largest one."""
        apart = self._differences(self.means, self.seen)
        if self.tolerance is not None:
            over = apart.sign() * (apart.abs() - self.tolerance).clamp(min=0)
            self.multipliers = self.multipliers + self.strength * over
        return {"largest difference of mean scores": float(apart.abs().max())}

    def state_dict(self) -> dict[str, Any]:
        """Return running means and multipliers."""
        return {"means": self.means, "seen": self.seen, "multipliers": self.multipliers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up running means and multipliers."""
        self.means, self.seen = state["means"].clone(), state["seen"].clone()
        self.multipliers = state["multipliers"].clone()


METHOD = SoftEodds
