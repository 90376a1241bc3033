"""Batches of inputs, labels and groups, checked and sorted by group."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from evenhand.errors import EvenhandError, first_few
from evenhand.networks.calling import as_tensor, count_rows, move_to_device, take_rows
from evenhand.pruning.curvature.types import GroupBatch
from evenhand.tables.arrays import as_array
from evenhand.tables.attributes import means_unknown
from evenhand.tables.spelling import refuse_group_spellings

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
