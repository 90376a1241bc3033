"""Saliency by group, for any network and any batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, first_few
from evenhand.networks.calling import (
    Forward,
    as_tensor,
    call,
    count_rows,
    move_to_device,
    require_gradients,
    restore_state,
    take_rows,
)
from evenhand.networks.head import find_head
from evenhand.pruning.curvature import GroupBatch, check_squares, check_steady, find_estimator
from evenhand.pruning.curvature.loss import Loss, find_loss
from evenhand.pruning.loop import prunable
from evenhand.pruning.saliency import GroupSaliency, unknown_parameters
from evenhand.tables.arrays import as_array
from evenhand.tables.attributes import means_unknown
from evenhand.tables.spelling import refuse_group_spellings


@dataclass(frozen=True, eq=False)
class Scoring:
    """The settings of saliency: groups, parameters, loss, and estimator of second derivatives.

    Attributes
    ----------
    unprivileged
        The group whose error should not rise.
    betas
        Weight β of each privileged group.
    names
        Names of the parameters.
    estimator
        Name of the estimator of second derivatives.
    loss
        The loss whose second derivatives are estimated.
    draws, seed
        Number of random draws for each sample, and their seed.
    forward
        Function of the network and inputs; it returns logits.
    """

    unprivileged: Hashable
    betas: Mapping[Any, float]
    names: tuple[str, ...]
    estimator: str
    loss: Loss
    draws: int
    seed: int
    forward: Forward

    @property
    def groups(self) -> tuple[Hashable, ...]:
        """The unprivileged group, then the privileged groups."""
        return (self.unprivileged, *self.betas)

    def score(
        self, module: nn.Module, batches: Batches, step: int = 0, names: Sequence[str] | None = None
    ) -> GroupSaliency:
        """Return the saliency of a network's parameters, from one pass over the batches.

        ``step`` is added to the seed of the draws; ``names`` replaces the parameters' names.
        """
        names = self.names if names is None else names
        device = next(module.parameters()).device
        rng = torch.Generator(device).manual_seed(self.seed + step)
        estimator = find_estimator(self.estimator)
        stream = sort_by_group(batches, self.groups, device)
        # The estimators' hooks make torch.compile fail or warn; a compiled network runs uncompiled.
        with torch.compiler.set_stance("force_eager"):
            stream = self._checked(module, stream, names, any_layer=estimator.any_layer)
            h = estimator(self.draws, rng, self.loss)(module, stream, names, self.forward)
        theta = {name: module.get_parameter(name).detach() for name in names}
        with torch.no_grad():
            _refuse_infinite(h)
            return GroupSaliency.compute(theta, h, self.unprivileged, self.betas)

    def _checked(
        self,
        module: nn.Module,
        stream: Iterator[GroupBatch],
        names: Sequence[str],
        *,
        any_layer: bool,
    ) -> Iterator[GroupBatch]:
        """Return the batches, after a check of the network on two samples of the first batch.

        The network must give the same output twice. Unless the estimator handles any layer, the
        squared gradients that it sums must equal those of autograd.
        """
        first = next(stream, None)
        if first is None:
            return stream
        rows = [0, len(first.labels) - 1]
        inputs, labels = take_rows(first.inputs, rows), first.labels[rows]
        if any_layer:
            check_steady(module, inputs, self.forward)
        else:
            check_squares(
                module, inputs, names, labels=labels, loss=self.loss, forward=self.forward
            )
        return chain([first], stream)


def group_saliency(
    module: nn.Module,
    batches: Batches,
    *,
    unprivileged: Hashable,
    betas: Mapping[Any, float],
    loss: str | Callable[..., Any] = "cross-entropy",
    estimator: str = "ggn-mc",
    parameters: Collection[str] | None = None,
    forward: Forward | None = None,
    draws: int = 1,
    seed: int = 0,
) -> GroupSaliency:
    """Return the saliency of each weight of a network for an unprivileged group.

    Saliency is s = ½ θ² (h_u - Σ_g β_g h_g), with h the second derivative of a group's mean loss by
    the weight θ: the cost of zeroing the weight for the unprivileged group u, minus β times the
    cost for each privileged group g (FairPrune, arXiv 2203.02110). The network is not changed.

    Parameters
    ----------
    module
        Any network, in training or evaluation mode; saliency is computed in evaluation mode.
    batches
        Any iterable of ``(inputs, labels, groups)``. Inputs are a tensor, or a tuple or mapping of
        tensors. A batch may lack a group. Samples of groups that are neither unprivileged nor in
        ``betas`` are left out.
    unprivileged
        The group whose error should not rise, as written in the batches.
    betas
        β ≥ 0 of each privileged group; with ``{}`` saliency is Optimal Brain Damage on one group.
    loss
        ``"cross-entropy"``, ``"binary-cross-entropy"`` (one logit, or one for each of several
        labels), torch's ``CrossEntropyLoss`` or ``BCEWithLogitsLoss`` with their weights; or, for
        hutchinson and fisher, a function of logits and labels that returns each sample's loss.
    estimator
        ``"ggn-mc"``, ``"ggn"``, ``"fisher"`` or ``"hutchinson"``.
    parameters
        Names of parameters; by default the weights of convolutions, linear layers and attention
        outside of the head.
    forward
        Function of the network and inputs; it returns logits. By default, a mapping is passed as
        keyword arguments and a tuple as positional ones, and the attribute or key ``logits`` of
        the output is taken if it exists.
    draws, seed
        Number of random draws for each sample, for ggn-mc and hutchinson, and their seed.

    Returns
    -------
    GroupSaliency
        A dictionary from parameters to tensors of their shape; ``by_group`` has each group's
        predicted error change, ``plot(layer)`` draws it.

    Raises
    ------
    EvenhandError
        If a batch or a name is wrong, a group is in no batch, or the estimator cannot handle a
        layer.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> batch = (torch.ones(4, 3), [0, 1, 0, 1], ["f", "f", "m", "m"])
    >>> saliency = group_saliency(network, [batch], unprivileged="f", betas={"m": 0.3})
    >>> {name: tuple(values.shape) for name, values in saliency.items()}
    {'0.weight': (4, 3)}
    """
    scoring = make_scoring(
        module, unprivileged, betas, loss, estimator, parameters, forward, draws, seed
    )
    with restore_state(module), torch.inference_mode(False), torch.enable_grad():
        return scoring.score(module, batches)


def make_scoring(
    module: nn.Module,
    unprivileged: Hashable,
    betas: Mapping[Any, float],
    loss: str | Callable[..., Any],
    estimator: str,
    parameters: Collection[str] | None,
    forward: Forward | None,
    draws: int,
    seed: int,
) -> Scoring:
    """Check the arguments of `group_saliency` and return them as one object."""
    require_gradients(module)
    find_estimator(estimator)
    if not isinstance(betas, Mapping):
        raise EvenhandError(
            f"betas={betas!r}: give a mapping from groups to weights, such as {{'m': 0.3}}."
        )
    if wrong := [group for group, beta in betas.items() if not _is_weight(beta)]:
        raise EvenhandError(
            f"betas={dict(betas)}: the weight of {first_few(map(repr, wrong))} is no number ≥ 0."
        )
    if unprivileged in betas:
        raise EvenhandError(
            f"the group {unprivileged!r} cannot be privileged and unprivileged at once; leave it "
            "out of betas."
        )
    if not isinstance(draws, int) or draws < 1:
        raise EvenhandError(f"draws={draws}: give a whole number ≥ 1.")
    names = _names(module, parameters)
    return Scoring(
        unprivileged, betas, names, estimator, find_loss(loss), draws, seed, forward or call
    )


def _is_weight(beta: Any) -> bool:
    return isinstance(beta, Real) and 0 <= float(beta) < math.inf


def _refuse_infinite(curvature: Mapping[Hashable, Mapping[str, Tensor]]) -> None:
    infinite = [name for h in curvature.values() for name in h if not h[name].isfinite().all()]
    if infinite:
        raise EvenhandError(
            f"the second derivatives of {first_few(dict.fromkeys(infinite))} are not finite. Are "
            "inputs or weights NaN, or too large for their type?"
        )


def _names(module: nn.Module, parameters: Collection[str] | None) -> tuple[str, ...]:
    if parameters is None:
        return prunable(module, ("conv", "linear"), find_head(module))
    names = [name for name, _ in module.named_parameters()]
    if unknown := [name for name in parameters if name not in names]:
        raise unknown_parameters(unknown, names)
    if not parameters:
        raise EvenhandError(
            "parameters= is empty; name parameters, or leave it out for the default weights."
        )
    chosen = set(parameters)
    return tuple(name for name in names if name in chosen)


Batches = Iterable[tuple[Any, Any, Any]]
"""Iterable (a list, a DataLoader) of inputs, labels and the group of each sample."""


def sort_by_group(
    batches: Batches, groups: Sequence[Hashable], device: torch.device
) -> Iterator[GroupBatch]:
    """Move each batch to a device, sort its samples by group, and yield it.

    A batch may lack a group. Samples of groups that are not in ``groups`` are left out.

    Raises
    ------
    EvenhandError
        If there is no batch, if a batch does not have three parts of equal length, or if no batch
        has a sample of one of the groups.
    """
    counts: dict[Hashable, int] = {}
    number = 0
    if not isinstance(batches, Iterable):
        raise EvenhandError(
            f"batches= is {type(batches).__name__}; give a list or a DataLoader of (inputs, "
            "labels, groups)."
        )
    for number, batch in enumerate(batches, 1):
        inputs, labels, levels = _parts(batch, number)
        members: dict[Hashable, list[int]] = {}
        for position, level in enumerate(levels):
            members.setdefault(level, []).append(position)
            counts[level] = counts.get(level, 0) + 1
        present = {group: members[group] for group in groups if group in members}
        if present:
            order = [position for positions in present.values() for position in positions]
            if order != list(range(len(levels))):
                inputs, labels = take_rows(inputs, order), labels[order]
            yield GroupBatch(move_to_device(inputs, device), labels.to(device), _slices(present))
    _check_groups(counts, groups, number)


def _check_groups(counts: Mapping[Hashable, int], groups: Sequence[Hashable], number: int) -> None:
    if not number:
        raise EvenhandError(
            "batches= gave nothing. A generator can be read only once: give a list or a "
            "DataLoader, or a new generator."
        )
    if missing := [group for group in groups if not counts.get(group)]:
        levels = first_few(f"{level!r} ({n})" for level, n in counts.items())
        raise EvenhandError(
            f"no sample of the {number} batches is of the group {first_few(map(repr, missing))}; "
            f"their groups are: {levels}. Give more batches, or other groups as unprivileged= and "
            "betas=."
        )
    named = {
        level: count
        for level, count in counts.items()
        if isinstance(level, str) and not means_unknown(level)
    }
    refuse_group_spellings("groups of the batches", named)


def _parts(batch: Any, number: int) -> tuple[Any, Tensor, list[Hashable]]:
    """Return inputs, labels and groups of a batch, after a check that their lengths are equal."""
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        kind = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise EvenhandError(f"batch {number} is {kind}; give batches (inputs, labels, groups).")
    inputs, labels, groups = batch[0], _labels(batch[1], number), _levels(batch[2], number)
    if isinstance(inputs, Tensor) or hasattr(inputs, "__array__"):
        inputs = as_tensor(inputs)
    if isinstance(inputs, Tensor) and inputs.layout != torch.strided:
        raise EvenhandError(f"batch {number}: sparse inputs are not taken; give .to_dense().")
    lengths = {"inputs": count_rows(inputs), "labels": len(labels), "groups": len(groups)}
    if len({length for length in lengths.values() if length is not None}) > 1:
        lengths_text = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise EvenhandError(
            f"batch {number} has {lengths_text}; give one label and one group for each sample."
        )
    return inputs, labels, groups


def _levels(groups: Any, number: int) -> list[Hashable]:
    if isinstance(groups, Mapping):
        if len(groups) != 1:
            raise EvenhandError(
                f"batch {number} has groups of {len(groups)} attributes ({first_few(groups)}); "
                "saliency takes one attribute: give its column alone."
            )
        groups = next(iter(groups.values()))
    if isinstance(groups, Tensor):
        groups = as_array(groups)
    levels = groups.tolist() if hasattr(groups, "tolist") else groups
    column = list(levels) if isinstance(levels, Iterable) else []
    column = [level.item() if hasattr(level, "item") else level for level in column]
    if isinstance(levels, str) or not all(isinstance(level, Hashable) for level in column):
        raise EvenhandError(
            f"the groups of batch {number} are no column of names ({type(groups).__name__}); give "
            "one name for each sample."
        )
    return column


def _labels(labels: Any, number: int) -> Tensor:
    try:
        is_ready = isinstance(labels, Tensor) and labels.layout == torch.strided
        values = labels if is_ready and not labels.is_meta else torch.as_tensor(as_array(labels))
        whole = not values.dtype.is_floating_point and not values.dtype.is_complex
        values = values.long() if whole else values
        return values.reshape(1) if values.ndim == 0 else values
    except (TypeError, ValueError, RuntimeError) as error:
        raise EvenhandError(
            f"the labels of batch {number} are no numbers ({error}); give a tensor, an array or a "
            "list of numbers."
        ) from error


def _slices(members: Mapping[Hashable, Sequence[int]]) -> dict[Any, slice]:
    """Return the slice of each group, if the groups' members follow one another."""
    slices, start = {}, 0
    for group, positions in members.items():
        slices[group] = slice(start, start + len(positions))
        start += len(positions)
    return slices
