"""Views of series: which steps are read, and what is done to the values there.

Everything that moves a series in time (crop and resize, warping, permutation of segments) says
which step of the original each step of the view shows, so that all of it is one look-up, and a
value that was not observed stays so. What is masked becomes NaN, as if it had not been observed.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

OFTEN = 0.5  # probability of an operation, for each sample and view on its own
SELDOM = 0.2  # of those that change what a series means most
SMALLEST_CROP = 0.6  # of the length
WARP = 0.4  # speed changes by up to this share
SEGMENTS = 4
SCALE, JITTER = 0.1, 0.2  # standard deviations; of the noise, up to that
LONGEST_MASK = 0.3  # of the length
DROPPED_CHANNELS = 0.15  # share


def view_series(series: Tensor, generator: Generator) -> Tensor:
    """Return one view of each standardised series ``(B, C, T)``, NaN where not observed."""
    count, channels, length = series.shape
    position = _steps(count, length, generator)
    position = position + length * torch.arange(count, device=series.device)[:, None]
    steps = series.movedim(1, 2).reshape(-1, channels)  # as batches lie in memory: no copy
    moved = steps.index_select(0, position.flatten()).view(count, length, channels)
    factor, spread = change(count, channels, generator)
    spans, dropped = hide(count, length, channels, generator)
    # NaN in a factor hides what it multiplies, so that masks take no pass of their own.
    factor, spread = (
        factor.masked_fill(dropped, torch.nan)[:, None, :],
        spread[:, None].masked_fill(spans, torch.nan)[:, :, None],
    )
    noise = torch.randn(moved.shape, generator=generator, device=series.device)
    return noise.mul_(spread).addcmul_(moved, factor).movedim(2, 1)


def _steps(count: int, length: int, generator: Generator) -> Tensor:
    """Return which step of the original each step of a view shows, ``(count, length)``."""
    place = torch.linspace(0, 1, length, device=generator.device).expand(count, length)
    for move in (crop, warp, permute):
        place = move(place, generator)
    return (place * (length - 1)).round().long().clamp(0, length - 1)


def crop(place: Tensor, generator: Generator) -> Tensor:
    """Show a part of the series, stretched to the whole length; ``place`` is in [0, 1]."""
    size, start = _uniform(len(place), 2, generator).unbind(1)
    size = 1 - (1 - SMALLEST_CROP) * size * _chosen(len(place), OFTEN, generator)
    return (start * (1 - size))[:, None] + size[:, None] * place


def warp(place: Tensor, generator: Generator) -> Tensor:
    """Run faster here and slower there, between the same ends."""
    amount = WARP * (2 * _uniform(len(place), 1, generator) - 1)
    amount = amount * _chosen(len(place), OFTEN, generator)[:, None]
    waves = 1 + (_uniform(len(place), 1, generator) * 3).floor()  # whole ones: the ends stay
    low, high = place[:, :1], place[:, -1:]
    inside = (place - low) / (high - low)
    bent = inside + amount * torch.sin(torch.pi * waves * inside) / (torch.pi * waves)
    return low + (high - low) * bent


def permute(place: Tensor, generator: Generator) -> Tensor:
    """Put segments of equal length into another order."""
    count, length = place.shape
    order = _uniform(count, SEGMENTS, generator).argsort(dim=1)
    kept = torch.arange(SEGMENTS, device=place.device).expand_as(order)
    order = torch.where(_chosen(count, SELDOM, generator)[:, None] > 0, order, kept)
    step = torch.arange(length, device=place.device)
    segment = step * SEGMENTS // length
    first = torch.zeros(SEGMENTS, dtype=torch.long, device=place.device)
    first = first.scatter_reduce(0, segment, step, "amin", include_self=False)
    source = first[order[:, segment]] + (step - first[segment])
    return place.gather(1, source.clamp(max=length - 1))


def change(count: int, channels: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return what each channel is multiplied by, ``(B, C)``, and how noisy a series gets, ``(B,)``.

    Channels are scaled, each by its own factor, and some series turned over.
    """
    normal = torch.randn(count, channels, generator=generator, device=generator.device)
    scale = 1 + SCALE * normal * _chosen(count, OFTEN, generator)[:, None]
    sign = 1 - 2 * _chosen(count, SELDOM, generator)
    return sign[:, None] * scale, JITTER * _uniform(count, 1, generator)[:, 0]


def hide(count: int, length: int, channels: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return which steps ``(B, T)``, one span, and which channels ``(B, C)`` are hidden."""
    size, start = _uniform(count, 2, generator).unbind(1)
    size = LONGEST_MASK * size * _chosen(count, OFTEN, generator)
    begin = start * (1 - size)
    place = (torch.arange(length, device=generator.device) + 0.5) / length
    spans = (place >= begin[:, None]) & (place < (begin + size)[:, None])
    return spans, _uniform(count, channels, generator) < DROPPED_CHANNELS


def _chosen(count: int, probability: float, generator: Generator) -> Tensor:
    """Return 1 for the samples that an operation is done to, 0 for the others, ``(count,)``."""
    return (_uniform(count, 1, generator)[:, 0] < probability).float()


def _uniform(rows: int, columns: int, generator: Generator) -> Tensor:
    return torch.rand(rows, columns, generator=generator, device=generator.device)
