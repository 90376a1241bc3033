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

from evenhand.errors import EvenhandError, check_count, check_seed
from evenhand.methods.arrays import Count as Count
from evenhand.methods.arrays import NotNegative as NotNegative
from evenhand.methods.arrays import Positive as Positive
from evenhand.methods.arrays import Rows, check_rows, count_classes, group_names
from evenhand.methods.ranges import SettingRange

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
            If the arrays do not fit, a group has several spellings, a setting is outside of its
            range, or the method cannot work with these groups.
        """
        if classes is not None:
            check_count("classes", classes, least=2)
        if not isinstance(seed, np.random.Generator):
            check_seed(seed)
        count = classes or count_classes(labels)
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
        labels = self.check_batch(logits, labels)
        weight = None if self.class_weight is None else self.class_weight.to(logits.device)
        return functional.cross_entropy(
            logits, labels, weight, reduction=reduction, label_smoothing=self.label_smoothing
        )

    def check_batch(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return a batch's labels as 64-bit integers.

        Labels of a class that does not exist are found on a CPU only, and not by a compiled loss:
        elsewhere, the check would wait for the device.

        Raises
        ------
        EvenhandError
            If logits are no floats ``(B, C)``, or labels no classes ``(B,)``.
        """
        fits = _is_dense(logits) and logits.is_floating_point() and logits.ndim == 2
        if not fits or not len(logits) or logits.shape[1] < 2:
            raise EvenhandError(
                f"logits: {_describe(logits)}; give a tensor (B, C) of floats, with one row at "
                "least and a column for each class. From one logit z for class 1: "
                "torch.stack([torch.zeros_like(z), z], dim=1)."
            )
        allowed = "give a tensor (B,) of classes from 0"
        if not (_is_dense(labels) and _is_whole(labels)) or labels.shape != logits.shape[:1]:
            raise EvenhandError(
                f"labels: {_describe(labels)}, for {len(logits)} rows of logits; {allowed}."
            )
        _check_device("labels", labels, logits)
        if not _has_values(labels):
            return labels.long()
        classes, codes = logits.shape[1], labels.long()
        if self.needs_attribute and self.groups is not None:
            classes = min(classes, self.groups.classes)
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= classes:
            raise EvenhandError(
                f"labels: a label is {low if low < 0 else high}, but there are {classes} classes; "
                f"{allowed}."
            )
        return codes

    def check_features(self, features: Tensor | None, labels: Tensor) -> Tensor:
        """Return the features of a batch ``(B, D)``.

        Raises
        ------
        EvenhandError
            If there are none, or they are no tensor of floats with a row for each label.
        """
        if features is None:
            name = type(self).__name__.lower()
            raise EvenhandError(
                f"{name} needs the features that the head takes; pass them to loss."
            )
        fits = _is_dense(features) and features.is_floating_point() and features.ndim == 2
        if not fits or len(features) != len(labels) or not features.shape[1]:
            raise EvenhandError(
                f"features: {_describe(features)}, for {len(labels)} labels; give a tensor (B, D) "
                "of floats, the input of the head."
            )
        _check_device("features", features, labels)
        return features

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
        """Restore what `state_dict` returned.

        Raises
        ------
        EvenhandError
            If it is the state of another method, or of training rows with other groups.
        """
        name, own = type(self).__name__, self.state_dict()
        if lacking := [key for key in own if key not in state]:
            raise EvenhandError(
                f"state: no {', '.join(lacking)} among its names ({', '.join(map(str, state))}); "
                f"give what state_dict of {name} returned."
            )
        for key, value in own.items():
            if not isinstance(value, Tensor) or not value.numel():
                continue
            if getattr(state[key], "shape", None) != value.shape:
                raise EvenhandError(
                    f"state: {key} is {_describe(state[key])}, but this {name} needs the shape "
                    f"{tuple(value.shape)}; give the state of a training on the same groups."
                )

    def check_codes(self, groups: Tensor, labels: Tensor) -> Tensor:
        """Return the codes of a batch's levels ``(B,)``, as 64-bit integers.

        Codes that no level has are found on a CPU only, and not by a compiled loss: elsewhere, the
        check would wait for the device.

        Raises
        ------
        EvenhandError
            If ``groups`` is no tensor of whole numbers, differs in length from ``labels``, or has
            codes that no level has, or codes below −1.
        """
        allowed = (
            "give a tensor (B,) of codes of the levels, -1 for unknown: "
            "torch.from_numpy(level_codes(groups, method.training_groups().levels))"
        )
        if not (_is_dense(groups) and _is_whole(groups)):
            kind = getattr(groups, "dtype", "")
            raise EvenhandError(f"groups: {type(groups).__name__} {kind}; {allowed}.")
        if groups.shape != labels.shape:
            raise EvenhandError(
                f"groups: shape {tuple(groups.shape)} for {len(labels)} labels; {allowed}."
            )
        _check_device("groups", groups, labels)
        codes = groups.long()
        if _has_values(codes) and self.groups is not None and len(codes):
            low, high = int(codes.min()), int(codes.max())
            if low < UNKNOWN_CODE or high >= len(self.groups.levels):
                raise EvenhandError(
                    f"groups: a code is {low if low < UNKNOWN_CODE else high}, but there are "
                    f"{len(self.groups.levels)} levels, from 0; {allowed}."
                )
        return codes

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


def _is_dense(values: object) -> bool:
    """Return whether values are a tensor with data, which is not sparse."""
    return isinstance(values, Tensor) and not values.is_meta and values.layout == torch.strided


def _is_whole(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex())


def _has_values(values: Tensor) -> bool:
    """Return whether values can be read now: on a CPU, and not while torch compiles a graph."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _describe(values: object) -> str:
    """Describe a tensor by its shape and type; any other object by its class."""
    if not isinstance(values, Tensor):
        return type(values).__name__
    kind = "" if _is_dense(values) else "meta, " if values.is_meta else f"{values.layout}, "
    return f"{kind}shape {tuple(values.shape)} of {values.dtype}"


def _check_device(name: str, values: Tensor, others: Tensor) -> None:
    if values.device != others.device:
        raise EvenhandError(
            f"{name} are on the device {values.device}, the batch on {others.device}; move them: "
            f"{name}.to({str(others.device)!r})."
        )


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

    Raises
    ------
    EvenhandError
        If a value is a level in another spelling.

    Examples
    --------
    >>> level_codes(["m", "f", "unknown"], ("f", "m"))
    array([ 1,  0, -1])
    """
    codes = {level: code for code, level in enumerate(levels)}
    names = group_names(groups, others=levels).tolist()
    return np.array([codes.get(name, UNKNOWN_CODE) for name in names], dtype=np.int64)


def group_means(values: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of values ``(B,)`` in each of ``count`` groups, and the rows of each.

    Rows with the group −1 are left out. The mean of a group without rows is 0.
    """
    index = torch.where(groups >= 0, groups, count)  # an extra place for rows without a group
    zeros = torch.zeros(count + 1, dtype=values.dtype, device=values.device)
    sums = zeros.index_add(0, index, values)[:count]
    sizes = zeros.index_add(0, index, torch.ones_like(values))[:count]
    return sums / sizes.clamp(min=1), sizes


def with_unknown(group_loss: Tensor, losses: Tensor, groups: Tensor) -> Tensor:
    """Return the mean of the groups' loss and of unknown rows' mean loss, weighted by rows."""
    unknown = groups < 0
    share = unknown.to(losses.dtype).mean()
    unknown_losses = torch.where(unknown, losses, 0)
    return (1 - share) * group_loss + unknown_losses.mean()
