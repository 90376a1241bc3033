"""The pruning loop: compute saliency, remove the smallest, repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from evenhand.pruning.state import M, PruningState, Remove


@dataclass(frozen=True)
class Pace:
    """How much each step removes, and when the pruning ends.

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
            Number of prunable parameters that remain, and number of all of them.

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

    It ends at the limit. It also ends once a step cannot remove anything, or only more than the
    limit allows, as one channel may have many parameters; that step yields its first state again.

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
