"""Mini-batches with so many samples of each group, out of a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.pruning.curvature import GroupBatch
from evenhand.tables.attributes import group_of
from evenhand.training.predict import unit

Positions = NDArray[np.intp]


def group_positions(cohort: Cohort, attribute: str, groups: Sequence[str]) -> dict[str, Positions]:
    """Return the positions in a cohort of the samples of each group."""
    labels = group_of(cohort.table, attribute, cohort.levels)
    return {group: np.flatnonzero((labels == group).to_numpy()) for group in groups}


def group_batches(
    source: BatchSource,
    positions: Mapping[str, Positions],
    batches: int,
    size: int,
    rng: np.random.Generator,
) -> Iterator[GroupBatch]:
    """Yield batches with ``size`` samples of each group; a group comes anew when it is through."""
    drawn = {group: _drawn(own, batches * size, rng) for group, own in positions.items()}
    rows = {group: slice(k * size, (k + 1) * size) for k, group in enumerate(positions)}
    for number in range(batches):
        part = slice(number * size, (number + 1) * size)
        batch = source.take(np.concatenate([own[part] for own in drawn.values()]))
        yield GroupBatch(unit(batch.inputs), batch.labels, rows)


def _drawn(positions: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Return ``count`` positions: one permutation after the other."""
    rounds = -(-count // len(positions))
    return np.concatenate([rng.permutation(positions) for _ in range(rounds)])[:count]


def generators(
    seed: int, step: int, device: torch.device
) -> tuple[np.random.Generator, torch.Generator]:
    """Return the generators of one step: of its batches, and of the labels drawn in it."""
    order, labels = np.random.SeedSequence([seed, step]).spawn(2)
    drawn = torch.Generator(device).manual_seed(int(labels.generate_state(1)[0]))
    return np.random.default_rng(order), drawn
