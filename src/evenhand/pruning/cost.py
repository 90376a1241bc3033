"""What a model costs: bytes on disk, and time for an answer."""

from __future__ import annotations

import statistics
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch

from evenhand.networks.model import Model

REPEATS = 30
CHUNK = 2**22  # bytes


@dataclass(frozen=True)
class Cost:
    """Size and speed of one model.

    Attributes
    ----------
    parameters, zeros
        How many numbers it has, and how many of them are zero.
    size, compressed
        Bytes of its weights on disk, and of the same file compressed by zlib.
    milliseconds
        Median time for one sample, on the device named.
    device
        Where it ran, and with how many threads.
    """

    parameters: int
    zeros: int
    size: int
    compressed: int
    milliseconds: float
    device: str


def cost_of(model: Model, weights: Path, sample: torch.Tensor) -> Cost:
    """Measure a model whose weights lie in a file, on one sample ``(1, …)``."""
    numbers = list(model.parameters())
    where = sample.device.type
    return Cost(
        parameters=sum(p.numel() for p in numbers),
        zeros=sum(int((p == 0).sum()) for p in numbers),
        size=weights.stat().st_size,
        compressed=_compressed(weights),
        milliseconds=round(1000 * _seconds(model, sample), 3),
        device=f"cpu, threads: {torch.get_num_threads()}" if where == "cpu" else where,
    )


def _compressed(path: Path) -> int:
    packer, size = zlib.compressobj(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


@torch.inference_mode()
def _seconds(model: Model, sample: torch.Tensor) -> float:
    model.eval()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        model(sample)
        if sample.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
