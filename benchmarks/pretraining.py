"""Compare the views of series and a step of pre-training by batch with numpy by sample.

The plain way draws each view of each sample separately, with the same operations in numpy, and
copies the whole data set when it is shuffled for an epoch. Both ways train the same encoder with
the same loss; its cost is the same for both, and limits the gain of a whole step.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evenhand.networks.encoders.conv1d import Conv1dEncoder
from evenhand.networks.encoders.layers import hold_last
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.pretraining.views import series as ours
from evenhand.pretraining.views import view_series

COUNT, CHANNELS, STEPS, BATCH = 2400, 37, 48, 256
REPEATS = 5
SEED = 0

Series = NDArray[np.float32]


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    data = rng.standard_normal((COUNT, STEPS, CHANNELS)).astype("f4")  # as a store holds them
    data[rng.random(data.shape) < 0.7] = np.nan
    step = stepper()
    for name, goal, work in (
        ("ssl_two_views", 5.0, lambda views: None),
        ("ssl_whole_step", 1.5, step),
    ):
        plain, batched = partial(plain_epoch, data, rng, work), partial(our_epoch, data, work)
        pairs = [(seconds(plain), seconds(batched)) for _ in range(REPEATS)]
        ratios = [slow / fast for slow, fast in pairs]
        detail = {
            "ratios": [round(ratio, 2) for ratio in sorted(ratios)],
            "ours_ms_per_step": round(1e3 * statistics.median(b for _, b in pairs) / steps(), 1),
            "shape": [COUNT, CHANNELS, STEPS],
            "batch": BATCH,
        }
        ratio = round(statistics.median(ratios), 2)
        text = {"name": name, "ratio": ratio, "better": "higher", "goal": goal, "detail": detail}
        print(json.dumps(text))


def steps() -> int:
    return math.ceil(COUNT / BATCH)


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def our_epoch(data: Series, work: Callable[[Tensor], None]) -> None:
    """Gather each batch from the data, and draw both of its views at once."""
    rng = torch.Generator().manual_seed(SEED)
    for positions in np.array_split(np.random.default_rng(SEED).permutation(COUNT), steps()):
        batch = torch.from_numpy(data[positions]).movedim(2, 1)
        work(torch.cat([view_series(batch, rng), view_series(batch, rng)]))


def plain_epoch(data: Series, rng: np.random.Generator, work: Callable[[Tensor], None]) -> None:
    """Copy the data in a new order, and draw each view of each sample separately."""
    shuffled = data[rng.permutation(COUNT)].copy()
    for start in range(0, COUNT, BATCH):
        batch = shuffled[start : start + BATCH].transpose(0, 2, 1)
        views = [np.stack([plain_view(item, rng) for item in batch]) for _ in range(2)]
        work(torch.from_numpy(np.concatenate(views)))


def plain_view(series: Series, rng: np.random.Generator) -> Series:
    """Return a view of one series ``(C, T)``, by the operations of ``view_series``."""
    series = series[:, plain_steps(series.shape[1], rng)].copy()
    if rng.random() < ours.OFTEN:
        series *= 1 + ours.SCALE * rng.standard_normal((len(series), 1))
    series += ours.JITTER * rng.random() * rng.standard_normal(series.shape)
    if rng.random() < ours.SELDOM:
        series *= -1
    if rng.random() < ours.OFTEN:
        size = ours.LONGEST_MASK * rng.random()
        begin = rng.random() * (1 - size)
        series[:, int(begin * series.shape[1]) : int((begin + size) * series.shape[1])] = np.nan
    series[rng.random(len(series)) < ours.DROPPED_CHANNELS] = np.nan
    return series


def plain_steps(length: int, rng: np.random.Generator) -> NDArray[np.intp]:
    place = np.linspace(0, 1, length)
    if rng.random() < ours.OFTEN:
        size = 1 - (1 - ours.SMALLEST_CROP) * rng.random()
        place = rng.random() * (1 - size) + size * place
    if rng.random() < ours.OFTEN:
        amount, waves = ours.WARP * rng.uniform(-1, 1), rng.integers(1, 4)
        low, width = place[0], place[-1] - place[0]
        inside = (place - low) / width
        place = low + width * (inside + amount * np.sin(np.pi * waves * inside) / (np.pi * waves))
    if rng.random() < ours.SELDOM:
        place = np.concatenate(
            [np.array_split(place, ours.SEGMENTS)[k] for k in rng.permutation(ours.SEGMENTS)]
        )
    return np.rint(place * (length - 1)).astype(np.intp)


def stepper() -> Callable[[Tensor], None]:
    """Return a step of SimCLR on two views of a batch."""
    method = SSL_OBJECTIVES.find("simclr")
    encoder = Conv1dEncoder(2 * CHANNELS)
    network = nn.Sequential(encoder, method.head(encoder.head_hidden_size)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step(views: Tensor) -> None:
        method.loss(*network(hold_last(views)).chunk(2)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
