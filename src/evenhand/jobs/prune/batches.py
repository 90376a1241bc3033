"""Batches with the same number of samples of each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.pruning.curvature import GroupBatch
from evenhand.tables.attributes import group_of
from evenhand.training.predict import to_unit_range

Positions = NDArray[np.intp]
"""Row numbers in a cohort."""


def group_positions(cohort: Cohort, attribute: str, groups: Sequence[str]) -> dict[str, Positions]:
    """Return the row numbers of the samples of each group of an attribute."""
    labels = group_of(cohort.table, attribute, cohort.levels)
    return {group: np.flatnonzero((labels == group).to_numpy()) for group in groups}


def group_batches(
    source: BatchSource,
    positions: Mapping[str, Positions],
    batches: int,
    size: int,
    rng: np.random.Generator,
) -> Iterator[GroupBatch]:
    """Yield batches with ``size`` random samples of each group.

    When all samples of a group have been used, they are drawn again in a new order.
    """
    drawn = {group: _draw(rows, batches * size, rng) for group, rows in positions.items()}
    slices = {group: slice(k * size, (k + 1) * size) for k, group in enumerate(positions)}
    for number in range(batches):
        part = slice(number * size, (number + 1) * size)
        batch = source.take(np.concatenate([rows[part] for rows in drawn.values()]))
        yield GroupBatch(to_unit_range(batch.inputs), batch.labels, slices)


def _draw(positions: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Return the first ``count`` of several random permutations of positions in a row."""
    rounds = -(-count // len(positions))
    return np.concatenate([rng.permutation(positions) for _ in range(rounds)])[:count]


def generators(
    seed: int, step: int, device: torch.device
) -> tuple[np.random.Generator, torch.Generator]:
    """Return the random generators of a step: of its batches, and of labels that it draws."""
    batch_seed, label_seed = np.random.SeedSequence([seed, step]).spawn(2)
    labels = torch.Generator(device).manual_seed(int(label_seed.generate_state(1)[0]))
    return np.random.default_rng(batch_seed), labels
