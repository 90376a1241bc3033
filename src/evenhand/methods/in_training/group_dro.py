"""Group DRO: groups with a high loss get more weight, step by step.

Misleads if a group's labels are wrong: its loss stays high, and its errors get the weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from evenhand.methods.arrays import Rows
from evenhand.methods.base import By, NotNegative, TrainingMethod, group_means, with_unknown
from evenhand.methods.in_training.group_balance import refuse_empty_groups
from evenhand.methods.ranges import Between

WARN_AT = 0.9


class GroupDRO(TrainingMethod):
    """Minimise the highest loss of a group, by weights on groups that change in each step.

    Parameters
    ----------
    rate
        Step size η of the weights.
    adjustment
        C in C/√n_g, which is added to a group's loss when weights are updated: small groups get
        more weight, as they are overfitted most.
    by
        Definition of a group.

    Notes
    -----
    Sagawa et al. (ICLR 2020, arXiv 1911.08731), online algorithm: q_g ← q_g exp(rate · (l_g +
    C/√n_g)), renormalised; the loss is Σ q_g l_g with l_g the mean loss of the group's rows in the
    batch. A group that is absent from a batch keeps its weight; the other groups keep the sum of
    their weights.

    Examples
    --------
    >>> dro = GroupDRO(rate=0.1, by="attribute")
    >>> _ = dro.sampler([0, 1], ["a", "b"])
    >>> dro.move(torch.tensor([1.0, 0.5]), torch.tensor([True, True]))
    >>> dro.weights
    tensor([0.5125, 0.4875])
    """

    name = "group-dro"
    needs_attribute = True
    ranges = MappingProxyType({"rate": Between(1e-3, 1.0)})

    def __init__(
        self, rate: NotNegative = 0.05, adjustment: NotNegative = 0.0, *, by: By = "label*attribute"
    ) -> None:
        super().__init__()
        self.rate, self.adjustment, self.by = rate, adjustment, by
        self.weights = torch.zeros(0)  # (G,)

    def check(self, rows: Rows) -> None:
        """Raise EvenhandError if a group has no row; start with equal weights."""
        refuse_empty_groups(self, self.name)
        groups = len(self.training_groups())
        if len(self.weights) != groups:
            self.weights = torch.full((groups,), 1 / groups)

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Update the weights, and return the weighted loss of the groups in a batch."""
        losses = self.row_losses(logits, labels)
        numbers = self.training_groups().numbers(labels.long(), self.check_codes(groups, labels))
        means, sizes = group_means(losses, numbers, len(self.weights))
        if torch.is_grad_enabled():
            self.note(means.detach().float().cpu(), sizes.float().cpu())
        weights = self.weights.to(means)
        return with_unknown((weights * means).sum(), losses, numbers)

    def note(self, means: Tensor, sizes: Tensor) -> None:
        """Update the weights by mean loss ``(G,)`` and size ``(G,)`` of the groups in a batch."""
        self.move(means, sizes > 0)

    def move(self, losses: Tensor, present: Tensor) -> None:
        """Shift weight among the groups that are present, towards those with higher losses."""
        sizes = self.training_groups().sizes
        raised = losses + self.adjustment / sizes.clamp(min=1).sqrt()
        mass = torch.where(present, self.weights, 0).sum()
        grown = torch.where(present, self.weights * torch.exp(self.rate * raised), 0)
        self.weights = torch.where(present, mass * grown / grown.sum(), self.weights)

    def after_epoch(self) -> Mapping[str, float]:
        """Return the weights by group."""
        names = self.training_groups().names
        return {f"weight of {n}": w for n, w in zip(names, self.weights.tolist(), strict=True)}

    def warning(self) -> str | None:
        """Return a sentence if one group holds over 90 % of the weight, as with wrong labels."""
        group = int(self.weights.argmax())
        if float(self.weights[group]) <= WARN_AT:
            return None
        return (
            f"{self.training_groups().names[group]} holds {float(self.weights[group]):.0%} of the "
            "weight. If its training loss does not fall, its labels may be wrong, and "
            f"{self.name} makes the model worse for everybody."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        return {"weights": self.weights.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights."""
        super().load_state_dict(state)
        self.weights = state["weights"].clone()


METHOD = GroupDRO
