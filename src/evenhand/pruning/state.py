"""A model on its way through the pruning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from evenhand.networks.model import Model
from evenhand.pruning.masks import Kept


@dataclass(frozen=True, eq=False)
class State:
    """A model on its way."""

    model: Model
    kept: Kept  # of weights, those too that an earlier pruning has set to zero
    left: int  # numbers that may be pruned and have not been
    total: int  # numbers that might be pruned in a model that nothing was pruned in

    @property
    def sparsity(self) -> float:
        """Share of what may be pruned that has been, 0 … 1."""
        return 1 - self.left / self.total


Remove = Callable[[State, Mapping[str, Tensor], int], State]
"""From a state, the saliency of each parameter and how many numbers may go to the next state. The
state that it gets is not changed."""
