"""A model on its way through the pruning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor, nn

from evenhand.pruning.masks import Kept

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class PruningState(Generic[M]):
    """A model on its way."""

    model: M
    kept: Kept  # of weights, those too that an earlier pruning has set to zero
    left: int  # numbers that may be pruned and have not been
    total: int  # numbers that might be pruned in a model that nothing was pruned in
    origin: Mapping[str, Tensor] = field(default_factory=dict)
    """Where the numbers of a narrower model lay in the first one, by parameter; flat places."""

    @property
    def sparsity(self) -> float:
        """Share of what may be pruned that has been, 0 … 1."""
        return 1 - self.left / self.total


Remove = Callable[[PruningState[M], Mapping[str, Tensor], int], PruningState[M]]
"""From a state, the saliency of each parameter and how many numbers may go to the next state. The
state that it gets is not changed."""
