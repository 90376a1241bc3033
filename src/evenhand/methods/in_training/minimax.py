"""Minimax: minimise the highest risk of a group, by weights that change once an epoch.

Misleads where a group cannot be served better, as its labels are wrong or its samples hold less
information: the others are served worse for nothing. By attribute alone it does not undo a label
that goes with a group.
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
        How far the weights move in the first epoch; in epoch t it is rate/√t.
    by
        What a group is.

    Notes
    -----
    Diana et al. (AIES 2021, arXiv 2011.03108): multiplicative weights on the groups' risks, each
    the mean loss of the group's rows in the epoch. Keep the epoch that serves the worst group best
    on validation, not the last one.
    """

    name = "minimax"
    ranges = MappingProxyType({"rate": Between(0.05, 5.0)})

    def __init__(self, rate: NotNegative = 0.5, *, by: By = "attribute") -> None:
        super().__init__(rate, 0.0, by=by)
        self._first, self.epochs = rate, 0
        self._sums = torch.zeros(0)
        self._rows = torch.zeros(0)

    def note(self, means: Tensor, sizes: Tensor) -> None:
        """Add the losses and rows of the groups in a batch to those of the epoch."""
        if not len(self._sums):
            self._sums = torch.zeros(len(means), dtype=torch.float64)
            self._rows = torch.zeros_like(self._sums)
        self._sums += means.double() * sizes
        self._rows += sizes

    def after_epoch(self) -> Mapping[str, float]:
        """Move the weights by the risks of the epoch, and return them."""
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
