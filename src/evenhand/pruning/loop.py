"""The pruning loop: compute saliency, remove the weights or channels with the least, repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
        Parameter → flat index of each of its weights in the unpruned model; empty unless channels
        were removed.
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


@dataclass(frozen=True)
class Pace:
    """The share that each step removes, and the sparsity at which the pruning ends.

    Attributes
    ----------
    share
        Percent of the remaining parameters that a step removes.
    limit
        The highest sparsity in percent.
    """

    share: float
    limit: float

    def count(self, left: int, total: int) -> int:
        """Return how many parameters the next step removes; 0 once the limit is reached.

        Parameters
        ----------
        left, total
            Number of prunable parameters that remain, and in the unpruned model.

        Examples
        --------
        >>> Pace(share=10, limit=60).count(left=100, total=100)
        10
        """
        share = max(1, round(left * self.share / 100))
        return max(0, min(share, left - self.floor(total)))

    def floor(self, total: int) -> int:
        """Return how many parameters remain at the limit."""
        return total - round(total * self.limit / 100)

    def steps(self, left: int, total: int) -> int:
        """Return the number of steps to the limit."""
        number = 0
        while count := self.count(left, total):
            left, number = left - count, number + 1
        return number


def prune_steps(
    state: PruningState[M],
    score: Callable[[M, int], Mapping[str, Tensor]],
    remove: Remove[M],
    pace: Pace,
    *,
    first: int = 1,
) -> Iterator[PruningState[M]]:
    """Yield the state after each step of a pruning.

    The pruning ends at the limit. It also ends if a step can remove nothing, or only more than the
    limit allows (a channel may have many parameters); this step yields the state before it.

    Parameters
    ----------
    state
        The state before the first step.
    score
        Function of a network and the number of a step; it returns the saliency of the parameters.
    remove
        Function that removes the parameters of least saliency.
    pace
        How much each step removes.
    first
        The number of the first step.
    """
    number = first
    while count := pace.count(state.left, state.total):
        before = state
        state = remove(before, score(before.model, number), count)
        if state.left < pace.floor(before.total):
            state = before
        yield state
        if state.left == before.left:
            return
        number += 1
