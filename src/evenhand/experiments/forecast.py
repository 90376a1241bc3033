"""Estimate how long the fits of a job take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from evenhand.experiments.task import Task
from evenhand.masks.masks import full_mask, set_trainable, train_mode
from evenhand.networks.model import Model
from evenhand.training.device import await_device, make_accelerator


def longest_minutes(seconds: float, workers: int) -> int:
    """Return the minutes, at least 1, in which workers do work of so many seconds."""
    return max(1, round(seconds / workers / 60))


def parallel_text(workers: int) -> str:
    """Return a clause about fits that run at the same time.

    Examples
    --------
    >>> parallel_text(4), parallel_text(1)
    (', 4 at a time', '')
    """
    return f", {workers} at a time" if workers > 1 else ""


def seconds_per_fit(task: Task) -> float:
    """Estimate the seconds of a fit from one step and one scored batch with all units tuned."""
    settings, accelerator = task.settings, make_accelerator(task.settings)
    forward, step = _measure_speed(task.model(), settings.batch_size, accelerator)
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()  # memory reserved by this process is not free for its workers
    steps = len(task.splits.train) / settings.batch_size
    scored = len(task.splits.val) / settings.batch_size
    return settings.epochs * (steps * step + scored * forward)


def _measure_speed(model: Model, batch_size: int, accelerator: Accelerator) -> tuple[float, float]:
    """Return the seconds of a forward pass, and of a forward and backward pass."""
    set_trainable(model, full_mask(model.backbone))
    train_mode(model)
    device = accelerator.device
    model = model.to(device)
    inputs = torch.zeros(batch_size, *model.spec.inputs.shape, device=device)

    def forward() -> Tensor:
        with accelerator.autocast():
            logits: Tensor = model(inputs)
        return logits

    return _seconds(forward, device), _seconds(
        lambda: accelerator.backward(forward().sum()), device
    )


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    work()  # the first call is slower than later ones
    await_device(device)
    start = time.perf_counter()
    work()
    await_device(device)
    return time.perf_counter() - start
