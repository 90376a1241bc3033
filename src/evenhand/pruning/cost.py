"""The size of a model on disk, and the time of a prediction."""

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
        Number of parameters, and number of parameters that are 0.
    size, compressed
        Bytes of the weights file, and of the same file compressed by zlib.
    milliseconds
        Median time for one sample on ``device``.
    device
        The device, and on a CPU the number of threads.
    """

    parameters: int
    zeros: int
    size: int
    compressed: int
    milliseconds: float
    device: str


def measure_cost(model: Model, weights: Path, sample: torch.Tensor) -> Cost:
    """Measure a model's weights file, and the model's time for one sample ``(1, …)``."""
    parameters = list(model.parameters())
    device_type = sample.device.type
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        zeros=sum(int((p == 0).sum()) for p in parameters),
        size=weights.stat().st_size,
        compressed=_compressed(weights),
        milliseconds=round(1000 * _seconds(model, sample), 3),
        device=f"cpu, threads: {torch.get_num_threads()}" if device_type == "cpu" else device_type,
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
