"""The base class of training methods; it is empirical risk minimisation."""

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
from evenhand.methods.arrays import Rows, check_rows, group_names
from evenhand.methods.ranges import SettingRange
from evenhand.tables.arrays import as_array

By = Literal["attribute", "label*attribute"]
"""Definition of a group: all rows of one level, or the rows of one label within one level."""

UNKNOWN_CODE = -1
"""Code of a row whose group is unknown."""


@dataclass(frozen=True, eq=False)
class TrainingGroups:
    """The groups of the training rows, numbered from 0.

    Attributes
    ----------
    levels
        Names of the K levels, sorted.
    classes
        Number of classes C.
    by
        Definition of a group.
    sizes
        ``(G,)``, number of training rows of each group; G is K, or C·K for label within level.
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

    def numbers(self, labels: Tensor, levels: Tensor) -> Tensor:
        """Return the number of each row's group, ``(B,)``; −1 if its level is unknown."""
        if self.by == "attribute":
            return levels
        return torch.where(levels >= 0, levels * self.classes + labels, UNKNOWN_CODE)


class TrainingMethod:
    """Empirical risk minimisation; other methods are subclasses.

    A training loop calls ``sampler`` once, with the training rows; then for each batch ``loss``,
    the optimiser's step and ``after_step``; after each epoch ``after_epoch``. Levels of the
    attribute are integers in the sorted order of their names, −1 for unknown (`level_codes`).

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
    """Whether ``loss`` reads the head's input."""
    needs_attribute = False
    """Whether training needs the groups. No training method needs them to score rows."""
    trains_twice = False
    """Whether a first, short training must find the rows that it classifies wrongly (``wrong``)."""
    ranges: Mapping[str, SettingRange] = MappingProxyType({})
    """Setting → range, for the settings that a search chooses; all others keep their defaults."""
    by: By = "attribute"

    def __init__(self) -> None:
        self.groups: TrainingGroups | None = None
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
        """Set the training rows, and return a sampler of their order in each epoch.

        Parameters
        ----------
        labels, groups, patients
            ``(n,)`` each, of the training rows.
        classes
            Number of classes; by default the highest label plus one.
        seed
            Seed of the orders.

        Raises
        ------
        EvenhandError
            If the arrays do not fit, or if the method cannot work with these groups.
        """
        count = classes or int(np.max(as_array(labels))) + 1
        rows = check_rows(labels, groups, patients, classes=count)
        codes = torch.from_numpy(level_codes(rows.groups, rows.levels))
        cells = TrainingGroups(rows.levels, count, self.by, torch.zeros(0))
        numbers = cells.numbers(torch.from_numpy(rows.labels), codes)
        size = len(rows.levels) * (count if self.by == "label*attribute" else 1)
        sizes = torch.bincount(numbers[numbers >= 0], minlength=size)
        self.groups = TrainingGroups(rows.levels, count, self.by, sizes)
        self.check(rows)
        return EpochSampler(self, rows, numbers.numpy(), np.random.default_rng(seed))

    def check(self, rows: Rows) -> None:
        """Raise EvenhandError if the method cannot work with these training rows."""

    def epoch(self, groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the training rows of one epoch, in their order."""
        return rng.permutation(len(groups))

    def head_outputs(self, classes: int) -> int:
        """Return the number of outputs of the head."""
        return classes

    def prior_shift(self) -> Tensor | None:
        """Return the shift ``(C,)`` of the head's logits when rows are scored; None for no shift.

        It corrects for a different prevalence of the classes in training.
        """
        return None

    def scored(self, outputs: Tensor) -> Tensor:
        """Return the logits ``(B, C)`` of scored rows from the head's outputs."""
        return outputs

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's cross-entropy ``(B,)``, with class weights and label smoothing."""
        return self._cross_entropy(logits, labels, "none")

    def plain_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch, with class weights and label smoothing."""
        return self._cross_entropy(logits, labels, "mean")

    def _cross_entropy(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        if not isinstance(labels, Tensor):
            raise EvenhandError(
                f"labels: {type(labels).__name__}; give a tensor (B,) of classes from 0."
            )
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
            ``(B, C)``, or as many columns as `head_outputs` returns.
        features
            ``(B, D)``, the head's input; only methods with ``needs_features`` read it.
        labels
            ``(B,)``, classes from 0.
        groups
            ``(B,)``, codes of the levels, −1 for unknown.
        """
        del features, groups
        return self.plain_loss(logits, labels)

    def after_step(self, module: nn.Module) -> None:
        """Do what the method does after each step of the optimiser; by default nothing."""

    def after_validation(self, loss: float) -> None:
        """Use the validation loss of an epoch; by default do nothing."""

    def final_weights(self) -> Mapping[str, Tensor] | None:
        """Return name → weights to load after training; None to keep the trained weights."""
        return None

    def after_epoch(self) -> Mapping[str, float]:
        """End an epoch; return name → value of the numbers to log for it."""
        return {}

    def warning(self) -> str | None:
        """Return a sentence about the training that the user must know, or None."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed training needs, as tensors, numbers and names."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def check_codes(self, groups: Tensor, labels: Tensor) -> Tensor:
        """Return the codes of a batch's levels ``(B,)``, as 64-bit integers.

        Codes above the highest level are found on a CPU only: elsewhere, the check would wait for
        the device.

        Raises
        ------
        EvenhandError
            If ``groups`` is no tensor of whole numbers, differs in length from ``labels``, or has
            codes that no level has.
        """
        allowed = (
            "give a tensor (B,) of codes of the levels, -1 for unknown: "
            "torch.from_numpy(level_codes(groups, method.training_groups().levels))"
        )
        if not isinstance(groups, Tensor) or groups.is_floating_point():
            kind = getattr(groups, "dtype", "")
            raise EvenhandError(f"groups: {type(groups).__name__} {kind}; {allowed}.")
        if groups.shape != labels.shape:
            raise EvenhandError(
                f"groups: shape {tuple(groups.shape)} for {len(labels)} labels; {allowed}."
            )
        on_cpu = groups.device.type == "cpu" and len(groups) > 0
        highest = int(groups.max()) if on_cpu else UNKNOWN_CODE
        if self.groups is not None and highest >= len(self.groups.levels):
            raise EvenhandError(
                f"groups: a code is {highest}, but there are {len(self.groups.levels)} levels, "
                f"from 0; {allowed}."
            )
        return groups.long()

    def training_groups(self) -> TrainingGroups:
        """Return the groups of the training rows.

        Raises
        ------
        EvenhandError
            If ``sampler`` was not called.
        """
        if self.groups is None:
            raise EvenhandError(
                f"{type(self).__name__} does not know the training rows: call "
                "sampler(labels, groups, patients) before the first loss."
            )
        return self.groups


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
        """Return the number of rows of an epoch."""
        return len(self._method.epoch(self._groups, np.random.default_rng(0)))


def level_codes(groups: ArrayLike, levels: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the position of each row's level among the levels; −1 for any other value.

    Examples
    --------
    >>> level_codes(["m", "f", "unknown"], ("f", "m"))
    array([ 1,  0, -1])
    """
    codes = {level: code for code, level in enumerate(levels)}
    names = group_names(groups).tolist()
    return np.array([codes.get(name, UNKNOWN_CODE) for name in names], dtype=np.int64)


def group_means(values: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of values ``(B,)`` in each of ``count`` groups, and the rows of each.

    Rows with the group −1 are left out. The mean of a group without rows is 0.
    """
    has_group = groups >= 0
    index = groups[has_group]
    sums = torch.zeros(count, dtype=values.dtype, device=values.device)
    sums = sums.index_add(0, index, values[has_group])
    sizes = torch.bincount(index, minlength=count).to(values.dtype)
    return sums / sizes.clamp(min=1), sizes


def with_unknown(group_loss: Tensor, losses: Tensor, groups: Tensor) -> Tensor:
    """Return the mean of the groups' loss and of unknown rows' mean loss, weighted by rows."""
    unknown = groups < 0
    share = unknown.to(losses.dtype).mean()
    unknown_loss = losses[unknown].mean() if unknown.any() else losses.new_zeros(())
    return (1 - share) * group_loss + share * unknown_loss
