"""Anybody's batches of inputs, labels and groups, with the samples of a group side by side."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from evenhand.errors import EvenhandError, some
from evenhand.networks.calling import count_rows, placed, take
from evenhand.pruning.curvature.types import GroupBatch

Batches = Iterable[tuple[Any, Any, Any]]
"""Inputs, labels and the group of each sample; an iterable such as a list or a DataLoader."""


def grouped(
    batches: Batches, wanted: Sequence[Hashable], device: torch.device
) -> Iterator[GroupBatch]:
    """Yield batches on a device with the samples of the wanted groups, those of a group together.

    A batch may lack a group. Samples of other groups take no part.

    Raises
    ------
    EvenhandError
        There is no batch, one is not of three parts of one length, or no batch has a wanted group.
    """
    seen: dict[Hashable, int] = {}
    number = 0
    if not isinstance(batches, Iterable):
        raise EvenhandError(
            f"batches= is {type(batches).__name__}; give a list or a DataLoader of (inputs, "
            "labels, groups)."
        )
    for number, batch in enumerate(batches, 1):
        inputs, labels, levels = _parts(batch, number)
        places: dict[Hashable, list[int]] = {}
        for place, level in enumerate(levels):
            places.setdefault(level, []).append(place)
        for level, own in places.items():
            seen[level] = seen.get(level, 0) + len(own)
        present = [group for group in wanted if group in places]
        if present:
            order = [place for group in present for place in places[group]]
            if order != list(range(len(levels))):
                inputs, labels = take(inputs, order), labels[order]
            yield GroupBatch(placed(inputs, device), labels.to(device), _rows(present, places))
    _check_seen(seen, wanted, number)


def _check_seen(seen: Mapping[Hashable, int], wanted: Sequence[Hashable], count: int) -> None:
    if not count:
        raise EvenhandError(
            "batches= gave nothing. A generator can be read once: give a list or a DataLoader, or "
            "make the generator anew."
        )
    if missing := [group for group in wanted if not seen.get(group)]:
        there = some(f"{level!r} ({n})" for level, n in seen.items())
        raise EvenhandError(
            f"no sample of the {count} batches is of the group {some(map(repr, missing))}; there "
            f"are: {there}. Give more batches, or other groups as unprivileged= and betas=."
        )


def _parts(batch: Any, number: int) -> tuple[Any, Tensor, list[Hashable]]:
    """Return inputs, labels and groups of a batch, all of one length."""
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        kind = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise EvenhandError(f"batch {number} is {kind}; give (inputs, labels, groups) in each.")
    inputs, labels, groups = batch[0], _labels(batch[1], number), _levels(batch[2], number)
    if not isinstance(inputs, Tensor) and hasattr(inputs, "__array__"):
        inputs = torch.as_tensor(inputs)
    lengths = {"inputs": count_rows(inputs), "labels": len(labels), "groups": len(groups)}
    if len({length for length in lengths.values() if length is not None}) > 1:
        lengths_text = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise EvenhandError(
            f"batch {number} has {lengths_text}; give one of each for every sample."
        )
    return inputs, labels, groups


def _levels(groups: Any, number: int) -> list[Hashable]:
    if isinstance(groups, Mapping):
        if len(groups) != 1:
            raise EvenhandError(
                f"batch {number} has groups of {len(groups)} attributes ({some(groups)}); saliency "
                "is about one: give its column alone."
            )
        groups = next(iter(groups.values()))
    levels = groups.tolist() if hasattr(groups, "tolist") else groups
    column = list(levels) if isinstance(levels, Iterable) else []
    if isinstance(levels, str) or not all(isinstance(level, Hashable) for level in column):
        raise EvenhandError(
            f"the groups of batch {number} are no column of names ({type(groups).__name__}); give "
            "one for each sample."
        )
    return column


def _labels(labels: Any, number: int) -> Tensor:
    try:
        return torch.atleast_1d(torch.as_tensor(labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise EvenhandError(
            f"the labels of batch {number} are no numbers ({error}); give a tensor, an array or a "
            "list of them."
        ) from error


def _rows(groups: Iterable[Hashable], places: Mapping[Hashable, Sequence[int]]) -> dict[Any, slice]:
    rows, start = {}, 0
    for group in groups:
        rows[group] = slice(start, start + len(places[group]))
        start += len(places[group])
    return rows
