"""Views of series: changes of time, of scale and noise, and masks.

Crop and resize, warping and permutation of segments compute, for each step of the view, the step of
the original that it shows. So one look-up applies all of them, and an unobserved value stays
unobserved. Masked values become NaN, as if they had not been observed.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

OFTEN = 0.5  # probability of most operations, independent for each sample and view
SELDOM = 0.2  # probability of operations that change the meaning most
SMALLEST_CROP = 0.6  # share of the length
WARP = 0.4  # speed changes by up to this share
SEGMENTS = 4
SCALE = 0.1  # standard deviation of the factor
JITTER = 0.2  # largest standard deviation of the noise
LONGEST_MASK = 0.3  # share of the length
DROPPED_CHANNELS = 0.15  # share of the channels


def view_series(series: Tensor, generator: Generator) -> Tensor:
    """Return one view of each standardised series ``(B, C, T)``, NaN where not observed."""
    count, channels, length = series.shape
    rows = _steps(count, length, generator)
    rows = rows + length * torch.arange(count, device=series.device)[:, None]
    steps = series.movedim(1, 2).reshape(-1, channels)  # the order in memory: no copy
    moved = steps.index_select(0, rows.flatten()).view(count, length, channels)
    factor, spread = draw_scale_and_noise(count, channels, generator)
    spans, dropped = draw_masks(count, length, channels, generator)
    # NaN in a factor masks the value that it multiplies: masks need no pass over the data.
    factor = factor.masked_fill(dropped, torch.nan)[:, None, :]
    spread = spread[:, None].masked_fill(spans, torch.nan)[:, :, None]
    noise = torch.randn(moved.shape, generator=generator, device=series.device)
    return noise.mul_(spread).addcmul_(moved, factor).movedim(2, 1)


def _steps(count: int, length: int, generator: Generator) -> Tensor:
    """Return the step of the original that each step of a view shows, ``(count, length)``."""
    place = torch.linspace(0, 1, length, device=generator.device).expand(count, length)
    for move in (crop_time, warp_time, permute_segments):
        place = move(place, generator)
    return (place * (length - 1)).round().long().clamp(0, length - 1)


def crop_time(place: Tensor, generator: Generator) -> Tensor:
    """Stretch a part of the series to the whole length; places ``(B, T)`` are in [0, 1]."""
    size, start = _uniform(len(place), 2, generator).unbind(1)
    size = 1 - (1 - SMALLEST_CROP) * size * _chosen(len(place), OFTEN, generator)
    return (start * (1 - size))[:, None] + size[:, None] * place


def warp_time(place: Tensor, generator: Generator) -> Tensor:
    """Change the speed along the series, and keep its ends."""
    amount = WARP * (2 * _uniform(len(place), 1, generator) - 1)
    amount = amount * _chosen(len(place), OFTEN, generator)[:, None]
    waves = 1 + (_uniform(len(place), 1, generator) * 3).floor()  # whole numbers keep the ends
    low, high = place[:, :1], place[:, -1:]
    inside = (place - low) / (high - low)
    bent = inside + amount * torch.sin(torch.pi * waves * inside) / (torch.pi * waves)
    return low + (high - low) * bent


def permute_segments(place: Tensor, generator: Generator) -> Tensor:
    """Put segments of equal length into another order."""
    count, length = place.shape
    order = _uniform(count, SEGMENTS, generator).argsort(dim=1)
    original_order = torch.arange(SEGMENTS, device=place.device).expand_as(order)
    order = torch.where(_chosen(count, SELDOM, generator)[:, None] > 0, order, original_order)
    step = torch.arange(length, device=place.device)
    segment = step * SEGMENTS // length
    first = torch.zeros(SEGMENTS, dtype=torch.long, device=place.device)
    first = first.scatter_reduce(0, segment, step, "amin", include_self=False)
    source = first[order[:, segment]] + (step - first[segment])
    return place.gather(1, source.clamp(max=length - 1))


def draw_scale_and_noise(count: int, channels: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return the factor of each channel, ``(B, C)``, and the noise of each series, ``(B,)``.

    Each channel has its own factor; in some series the factors are negative. The noise is given by
    its standard deviation.
    """
    normal = torch.randn(count, channels, generator=generator, device=generator.device)
    scale = 1 + SCALE * normal * _chosen(count, OFTEN, generator)[:, None]
    sign = 1 - 2 * _chosen(count, SELDOM, generator)
    return sign[:, None] * scale, JITTER * _uniform(count, 1, generator)[:, 0]


def draw_masks(
    count: int, length: int, channels: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return masks of hidden steps ``(B, T)``, one span each, and of hidden channels ``(B, C)``."""
    size, start = _uniform(count, 2, generator).unbind(1)
    size = LONGEST_MASK * size * _chosen(count, OFTEN, generator)
    begin = start * (1 - size)
    place = (torch.arange(length, device=generator.device) + 0.5) / length
    spans = (place >= begin[:, None]) & (place < (begin + size)[:, None])
    return spans, _uniform(count, channels, generator) < DROPPED_CHANNELS


def _chosen(count: int, probability: float, generator: Generator) -> Tensor:
    """Return 1 with a probability, else 0, for each of ``count`` samples, ``(count,)``."""
    return (_uniform(count, 1, generator)[:, 0] < probability).float()


def _uniform(rows: int, columns: int, generator: Generator) -> Tensor:
    return torch.rand(rows, columns, generator=generator, device=generator.device)
