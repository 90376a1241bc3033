"""The state of a pruning: the model, and how much of it is pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor, nn

from evenhand.pruning.masks import WeightMask

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class PruningState(Generic[M]):
    """A partly pruned model.

    Attributes
    ----------
    model
        The model.
    mask
        Mask of its weights; it also drops weights that an earlier pruning set to zero.
    left
        Number of prunable parameters that remain.
    total
        Number of prunable parameters in the unpruned model.
    origin
        Parameter → flat index of each of its weights in the first model; empty unless channels were
        removed.
    """

    model: M
    mask: WeightMask
    left: int
    total: int
    origin: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of the prunable parameters that are pruned, 0 … 1."""
        return 1 - self.left / self.total


Remove = Callable[[PruningState[M], Mapping[str, Tensor], int], PruningState[M]]
"""Function of a state, the saliency of each parameter and the number of parameters to remove.

It returns the next state, and does not change the state that it gets."""
