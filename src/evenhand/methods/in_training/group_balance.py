"""Group balancing: every group counts equally, by sampling, weights or leaving rows out.

Misleads if a group has few patients: they are drawn again and again, and the network memorises
them. Balancing by attribute alone does not remove a correlation of label and group.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Rows
from evenhand.methods.base import By, TrainingMethod
from evenhand.methods.ranges import OneOf

LEAST_SHIFT = 0.01
"""Smallest shift of log-odds that is reported."""


class GroupBalance(TrainingMethod):
    """Give every group the same weight in training.

    Parameters
    ----------
    how
        ``sampling`` draws rows with replacement, each group equally often; ``weights`` multiplies
        losses by n / (G n_g); ``subsampling`` keeps as many rows of each group as the smallest
        has, drawn again in each epoch.
    by
        Definition of a group. Balancing by attribute alone does not remove a correlation of label
        and group.

    Notes
    -----
    Idrissi et al. (CLeaR 2022, arXiv 2110.14503). Balancing changes the prevalence of the classes,
    and with it the logits. When rows are scored, log(p / q) is added to the logit of a class, with
    its share p of the training rows and its mean share q over the groups; if label and attribute
    are balanced, q is 1 / C. Scores of a group with a different prevalence stay shifted.

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
        self._shift: Tensor | None = None

    def check(self, rows: Rows) -> None:
        """Raise EvenhandError if a group has no row; compute the shift of the logits."""
        refuse_empty_groups(self, "group-balance")
        classes = self.training_groups().classes
        counts = np.array(
            [
                np.bincount(rows.labels[rows.groups == level], minlength=classes)
                for level in rows.levels
            ]
        )  # (K, C)
        by_group = counts / counts.sum(axis=1, keepdims=True)
        balanced = np.full(classes, 1 / classes)
        if self.by == "attribute":
            balanced = by_group.mean(axis=0)
        share = counts.sum(axis=0) / counts.sum()
        if (share > 0).all():
            shift = np.log(share) - np.log(balanced)
            self._shift = torch.from_numpy(shift - shift[0]).float()

    def prior_shift(self) -> Tensor | None:
        """Return the shift ``(C,)`` of the logits that restores the prevalence of the classes."""
        return self._shift

    def scored(self, outputs: Tensor) -> Tensor:
        """Return logits with the prevalence of the training rows."""
        return outputs if self._shift is None else outputs + self._shift.to(outputs)

    def warning(self) -> str | None:
        """Return a sentence if scores were shifted by at least 0.01 in log-odds, else None."""
        if self._shift is None or float(self._shift.abs().max()) < LEAST_SHIFT:
            return None
        shifts = ", ".join(f"{value:+.2f}" for value in self._shift[1:].tolist())
        return (
            "Training on balanced rows changes the prevalence of the classes, so the scores were "
            f"shifted back to the prevalence of the training rows (log-odds {shifts}). Scores of a "
            "group with a different prevalence stay shifted: evenhand adjust RUN --method "
            "recalibrate corrects them."
        )

    def epoch(self, groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the training rows of one epoch; rows of unknown groups are kept as they are."""
        if self.how == "weights":
            return super().epoch(groups, rng)
        members = [np.flatnonzero(groups == group) for group in range(len(self.training_groups()))]
        unknown = np.flatnonzero(groups < 0)
        if self.how == "subsampling":
            size = min(map(len, members))
            drawn = [rng.permutation(rows)[:size] for rows in members]
        else:
            total = sum(map(len, members))
            sizes = np.bincount(rng.integers(len(members), size=total), minlength=len(members))
            drawn = [rng.choice(rows, size) for rows, size in zip(members, sizes, strict=True)]
        return rng.permutation(np.concatenate([*drawn, unknown]))

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy, weighted if ``how`` is ``weights``."""
        if self.how != "weights":
            return self.plain_loss(logits, labels)
        cells = self.training_groups()
        losses = self.row_losses(logits, labels)
        sizes = cells.sizes.to(logits.device, logits.dtype)
        weights = sizes.sum() / (len(cells) * sizes)
        numbers = cells.numbers(labels.long(), self.check_codes(groups, labels))
        row_weights = weights[numbers.clamp(min=0)].where(numbers >= 0, 1.0)
        return (row_weights * losses).mean()


def refuse_empty_groups(method: TrainingMethod, name: str) -> None:
    """Check that every group has a training row.

    Raises
    ------
    EvenhandError
        If a group is empty; the message names it.
    """
    cells = method.training_groups()
    empty = [
        group for group, size in zip(cells.names, cells.sizes.tolist(), strict=True) if not size
    ]
    if empty:
        raise EvenhandError(
            f"{name} needs training rows in every group; there are none in {'; '.join(empty)}. "
            "Merge the level with another, leave it out, or give by=attribute."
        )


METHOD = GroupBalance
