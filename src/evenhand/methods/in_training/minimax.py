"""Minimax: minimise the highest risk of a group, by weights that change once an epoch.

Misleads if a group cannot be served better, because its labels are wrong or its samples have less
information: other groups are served worse without any benefit. With groups by attribute alone, it
does not remove a correlation of label and group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from evenhand.methods.base import By, NotNegative
from evenhand.methods.in_training.group_dro import GroupDRO
from evenhand.methods.ranges import Between


class Minimax(GroupDRO):
    """Minimise the highest risk of a group, by weights on groups that change once an epoch.

    Parameters
    ----------
    rate
        Step size of the weights in the first epoch; in epoch t it is rate/√t.
    by
        Definition of a group.

    Notes
    -----
    Diana et al. (AIES 2021, arXiv 2011.03108): multiplicative weights on the groups' risks; a
    group's risk is the mean loss of its rows in the epoch. Keep the epoch with the best worst group
    on validation data, not the last epoch.
    """

    name = "minimax"
    ranges = MappingProxyType({"rate": Between(0.05, 5.0)})

    def __init__(self, rate: NotNegative = 0.5, *, by: By = "attribute") -> None:
        super().__init__(rate, 0.0, by=by)
        self._first, self.epochs = rate, 0
        self._sums = torch.zeros(0)
        self._rows = torch.zeros(0)

    def note(self, means: Tensor, sizes: Tensor) -> None:
        """Add the losses and the numbers of rows of a batch's groups to the sums of the epoch."""
        if not len(self._sums):
            self._sums = torch.zeros(len(means), dtype=torch.float64)
            self._rows = torch.zeros_like(self._sums)
        self._sums += means.double() * sizes
        self._rows += sizes

    def after_epoch(self) -> Mapping[str, float]:
        """Update the weights by the risks of the epoch, and return them."""
        self.epochs += 1
        self.rate = self._first / math.sqrt(self.epochs)
        self.move((self._sums / self._rows.clamp(min=1)).float(), self._rows > 0)
        self._sums, self._rows = torch.zeros(0), torch.zeros(0)
        return super().after_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights and the number of epochs."""
        return {**super().state_dict(), "epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights and the number of epochs."""
        super().load_state_dict(state)
        self.epochs = int(state["epochs"])


METHOD = Minimax
