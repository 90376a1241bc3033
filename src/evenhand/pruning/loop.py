"""The pruning loop of any network: saliency, the smallest go, and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from evenhand.pruning.state import M, PruningState, Remove


@dataclass(frozen=True)
class Pace:
    """How much each step takes, and where it ends.

    Attributes
    ----------
    share
        Percent of what is left that a step takes.
    limit
        The highest sparsity in percent.
    """

    share: float
    limit: float

    def count(self, left: int, total: int) -> int:
        """Return how many numbers the next step may take, 0 where the limit is reached.

        Examples
        --------
        >>> Pace(share=10, limit=60).count(left=100, total=100)
        10
        """
        share = max(1, round(left * self.share / 100))
        return max(0, min(share, left - self.floor(total)))

    def floor(self, total: int) -> int:
        """Return how many numbers are left at the limit."""
        return total - round(total * self.limit / 100)

    def steps(self, left: int, total: int) -> int:
        """Return how many steps there are to the limit."""
        number = 0
        while taken := self.count(left, total):
            left, number = left - taken, number + 1
        return number


def prune_steps(
    state: PruningState[M],
    score: Callable[[M, int], Mapping[str, Tensor]],
    remove: Remove[M],
    pace: Pace,
    *,
    first: int = 1,
) -> Iterator[PruningState[M]]:
    """Yield the states of a pruning, until its limit or until nothing more can be removed.

    The last state is that before it where nothing can be removed without passing the limit: one
    channel may have more numbers than that.

    Parameters
    ----------
    state
        Where it begins.
    score
        From a network and the number of the step to the saliency of its parameters.
    remove
        Takes out what counts least.
    pace
        How much a step takes.
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
