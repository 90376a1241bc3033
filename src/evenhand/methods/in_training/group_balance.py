"""Group balancing: every group counts equally, by sampling, weights or leaving rows out."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Rows
from evenhand.methods.base import By, TrainingMethod
from evenhand.methods.ranges import OneOf


class GroupBalance(TrainingMethod):
    """Give every group the same weight in training.

    Parameters
    ----------
    how
        ``sampling`` draws rows with replacement, each group equally often; ``weights`` multiplies
        losses by n / (G n_g); ``subsampling`` keeps as many rows of each group as the smallest
        has, drawn again in each epoch.
    by
        What a group is. Balancing by attribute alone cannot undo that a label goes with a group.

    Notes
    -----
    Idrissi et al. (CLeaR 2022, arXiv 2110.14503).

    Examples
    --------
    >>> method = GroupBalance("subsampling", by="attribute")
    >>> order = method.sampler([0, 1, 0, 1, 0], ["a", "a", "a", "b", "b"])
    >>> len(list(order))
    4
    """

    needs_attribute = True
    ranges = MappingProxyType({"how": OneOf(("sampling", "weights", "subsampling"))})

    def __init__(
        self,
        how: Literal["sampling", "weights", "subsampling"] = "sampling",
        *,
        by: By = "label*attribute",
    ) -> None:
        super().__init__()
        self.how, self.by = how, by

    def check(self, rows: Rows) -> None:
        """Refuse training rows that lack a group."""
        refuse_empty_groups(self, "group-balance")

    def epoch(self, groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the training rows of one epoch; rows of unknown groups are kept as they are."""
        if self.how == "weights":
            return super().epoch(groups, rng)
        members = [np.flatnonzero(groups == group) for group in range(len(self.known_cells()))]
        unknown = np.flatnonzero(groups < 0)
        if self.how == "subsampling":
            size = min(map(len, members))
            drawn = [rng.permutation(rows)[:size] for rows in members]
        else:
            known = sum(map(len, members))
            sizes = np.bincount(rng.integers(len(members), size=known), minlength=len(members))
            drawn = [rng.choice(rows, size) for rows, size in zip(members, sizes, strict=True)]
        return rng.permutation(np.concatenate([*drawn, unknown]))

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy, weighted where ``how`` is ``weights``."""
        if self.how != "weights":
            return self.plain_loss(logits, labels)
        cells = self.known_cells()
        sizes = cells.sizes.to(logits.device, logits.dtype)
        weights = sizes.sum() / (len(cells) * sizes)
        numbers = cells.of(labels, groups)
        of_rows = weights[numbers.clamp(min=0)].where(numbers >= 0, 1.0)
        return (of_rows * self.row_losses(logits, labels)).mean()


def refuse_empty_groups(method: TrainingMethod, name: str) -> None:
    """Refuse groups that have no training row.

    Raises
    ------
    EvenhandError
        Some group is empty; the text names it.
    """
    cells = method.known_cells()
    empty = [
        group for group, size in zip(cells.names, cells.sizes.tolist(), strict=True) if not size
    ]
    if empty:
        raise EvenhandError(
            f"{name} needs training rows in every group; there are none in {'; '.join(empty)}. "
            "Merge the level with another, leave it out, or give by=attribute."
        )


METHOD = GroupBalance
