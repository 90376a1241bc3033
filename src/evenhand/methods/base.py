"""The base class of training methods, which is empirical risk minimisation itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Sampler

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Count as Count
from evenhand.methods.arrays import NotNegative as NotNegative
from evenhand.methods.arrays import Positive as Positive
from evenhand.methods.arrays import Rows, names_of, rows_of
from evenhand.methods.ranges import SettingRange

By = Literal["attribute", "label*attribute"]
"""What a group is: the rows of one level, or those of one label within one level."""

UNKNOWN = -1
"""Code of a row whose group is not known."""


@dataclass(frozen=True, eq=False)
class GroupCells:
    """Groups as numbers.

    Attributes
    ----------
    levels
        Names of the K levels, sorted.
    classes
        Number of classes C.
    by
        What a group is.
    sizes
        ``(G,)`` training rows of each group; G is K, or C·K with label within level.
    """

    levels: tuple[str, ...]
    classes: int
    by: By
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, in the order of their numbers."""
        if self.by == "attribute":
            return self.levels
        return tuple(f"{level}, class {y}" for level in self.levels for y in range(self.classes))

    def of(self, labels: Tensor, levels: Tensor) -> Tensor:
        """Return the group ``(B,)`` of rows; −1 where the level is not known."""
        if self.by == "attribute":
            return levels
        return torch.where(levels >= 0, levels * self.classes + labels, UNKNOWN)


class TrainingMethod:
    """Empirical risk minimisation; other methods override what they change.

    A method is used in this order: ``sampler`` once, with the training rows; then for each batch
    ``loss``, the optimiser's step and ``after_step``; after each epoch ``after_epoch``. Levels of
    the attribute come as integers in the sorted order of their names, −1 for unknown
    (`level_codes`).

    Examples
    --------
    >>> method = TrainingMethod()
    >>> order = method.sampler([0, 1, 1, 0], ["f", "m", "f", "m"], seed=0)
    >>> sorted(order)
    [0, 1, 2, 3]
    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    >>> method.loss(logits, None, labels, groups=labels)
    tensor(0.1269)
    """

    needs_features = False
    """Whether ``loss`` reads the features that the head takes."""
    needs_attribute = False
    """Whether training reads the groups. No training method needs them to score rows."""
    trains_twice = False
    """Whether a short first training must find the rows that it gets wrong (``wrong``)."""
    ranges: Mapping[str, SettingRange] = MappingProxyType({})
    """The settings that a search chooses, each with what it may be; others keep their defaults."""
    by: By = "attribute"

    def __init__(self) -> None:
        self.cells: GroupCells | None = None
        self.class_weight: Tensor | None = None
        self.label_smoothing = 0.0

    def sampler(
        self,
        labels: ArrayLike,
        groups: ArrayLike,
        patients: ArrayLike | None = None,
        *,
        classes: int | None = None,
        seed: int | np.random.Generator = 0,
    ) -> EpochSampler:
        """Take the training rows, and return the order of rows of each epoch.

        Parameters
        ----------
        labels, groups, patients
            ``(n,)`` each, of the training rows.
        classes
            Number of classes; by default those that occur.
        seed
            Draws the orders.

        Raises
        ------
        EvenhandError
            The arrays do not fit, or the method cannot work with these groups.
        """
        count = classes or int(np.max(np.asarray(labels))) + 1
        rows = rows_of(labels, groups, patients, classes=count)
        codes = torch.from_numpy(level_codes(rows.groups, rows.levels))
        cells = GroupCells(rows.levels, count, self.by, torch.zeros(0))
        groups_in = cells.of(torch.from_numpy(rows.labels), codes)
        size = len(rows.levels) * (count if self.by == "label*attribute" else 1)
        sizes = torch.bincount(groups_in[groups_in >= 0], minlength=size)
        self.cells = GroupCells(rows.levels, count, self.by, sizes)
        self.check(rows)
        return EpochSampler(self, rows, groups_in.numpy(), np.random.default_rng(seed))

    def check(self, rows: Rows) -> None:
        """Refuse training rows that the method cannot work with."""

    def epoch(self, groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the training rows of one epoch, in their order."""
        return rng.permutation(len(groups))

    def head_outputs(self, classes: int) -> int:
        """Return the number of outputs of the head."""
        return classes

    def prior_shift(self) -> Tensor | None:
        """Return what the logits ``(C,)`` of the head are raised by when rows are scored.

        It undoes that a method changed how frequent each class is in training. None: nothing.
        """
        return None

    def scored(self, outputs: Tensor) -> Tensor:
        """Return logits ``(B, C)`` from the outputs of the head, when rows are scored."""
        return outputs

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy ``(B,)`` of each row, by class weights and label smoothing."""
        return self._cross_entropy(logits, labels, "none")

    def plain_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch, by class weights and label smoothing."""
        return self._cross_entropy(logits, labels, "mean")

    def _cross_entropy(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        weight = None if self.class_weight is None else self.class_weight.to(logits.device)
        return functional.cross_entropy(
            logits, labels, weight, reduction=reduction, label_smoothing=self.label_smoothing
        )

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        logits
            ``(B, C)``, or what `head_outputs` says.
        features
            ``(B, D)`` that the head takes; only methods with ``needs_features`` read them.
        labels
            ``(B,)``.
        groups
            ``(B,)`` codes of the levels, −1 for unknown.
        """
        del features, groups
        return self.plain_loss(logits, labels)

    def after_step(self, module: nn.Module) -> None:
        """Read the weights, after each step of the optimiser."""

    def after_validation(self, loss: float) -> None:
        """Receive the validation loss of an epoch."""

    def final_weights(self) -> Mapping[str, Tensor] | None:
        """Return weights by name that replace those of the trained model; None to keep its own."""
        return None

    def after_epoch(self) -> Mapping[str, float]:
        """End an epoch; return the values that the method logs for it, by name."""
        return {}

    def warning(self) -> str | None:
        """Return a sentence on what a user must know of the training, or None."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed training needs, as tensors, numbers and names."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def known_cells(self) -> GroupCells:
        """Return the groups of the training rows.

        Raises
        ------
        EvenhandError
            ``sampler`` was not called.
        """
        if self.cells is None:
            raise EvenhandError(
                f"{type(self).__name__} does not know the training rows: call "
                "sampler(labels, groups, patients) before the first loss."
            )
        return self.cells


class EpochSampler(Sampler[int]):
    """Orders of training rows, one for each iteration; a sampler for a DataLoader."""

    def __init__(
        self,
        method: TrainingMethod,
        rows: Rows,
        groups: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        self.rows, self._method, self._groups, self._rng = rows, method, groups, rng

    def __iter__(self) -> Iterator[int]:
        """Yield the positions of one epoch."""
        return iter(self._method.epoch(self._groups, self._rng).tolist())

    def __len__(self) -> int:
        """Return the rows of an epoch."""
        return len(self._method.epoch(self._groups, np.random.default_rng(0)))


def level_codes(groups: ArrayLike, levels: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the position of each row's level among the levels; −1 for any other value.

    Examples
    --------
    >>> level_codes(["m", "f", "unknown"], ("f", "m"))
    array([ 1,  0, -1])
    """
    place = {level: code for code, level in enumerate(levels)}
    return np.array(
        [place.get(group, UNKNOWN) for group in names_of(groups).tolist()], dtype=np.int64
    )


def group_means(values: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of values ``(B,)`` in each of ``count`` groups, and the rows of each.

    Rows with the group −1 take no part. The mean of a group that does not occur is 0.
    """
    member = groups >= 0
    index = groups[member]
    sums = torch.zeros(count, dtype=values.dtype, device=values.device)
    sums = sums.index_add(0, index, values[member])
    sizes = torch.bincount(index, minlength=count).to(values.dtype)
    return sums / sizes.clamp(min=1), sizes


def with_unknown(group_loss: Tensor, losses: Tensor, groups: Tensor) -> Tensor:
    """Average the loss of the groups and the mean loss of unknown rows, by their shares."""
    unknown = groups < 0
    share = unknown.to(losses.dtype).mean()
    rest = losses[unknown].mean() if unknown.any() else losses.new_zeros(())
    return (1 - share) * group_loss + share * rest
