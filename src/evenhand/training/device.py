"""The device and the precision of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn
from torch.cuda import device_count, is_available
from torch.random import fork_rng

from evenhand.errors import EvenhandError
from evenhand.training.memory import reuse_freed_memory
from evenhand.training.settings import LoopSettings

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)

PATIENCE = timedelta(days=1)
"""Longest time that processes wait for the one that decodes samples or caches activations.

If this one dies, the launcher ends the others.
"""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def make_accelerator(settings: LoopSettings) -> Accelerator:
    """Return the accelerator for the settings: CUDA or the CPU.

    On the CPU, this process reuses freed memory from now on.

    Raises
    ------
    EvenhandError
        If the settings name CUDA and torch finds no CUDA device.
    """
    if settings.device == "cuda" and not is_available():
        raise EvenhandError(
            "--device cuda: torch sees no CUDA device here. Give --device cpu, or install a CUDA "
            "build of torch."
        )
    # Without CUDA, accelerate would take other devices, such as Apple's, which lack float64.
    on_cpu = settings.device == "cpu" or not is_available()
    if on_cpu:
        reuse_freed_memory()
    assert settings.precision != "auto", "a job settles the precision first"
    precision = {"fp32": "no", "bf16": "bf16"}[settings.precision]
    if _state_differs(on_cpu, precision):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    # A schedule may freeze in one epoch what it tunes in another.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[parallel, patience])


def _state_differs(on_cpu: bool, precision: str) -> bool:
    """Whether accelerate's state in this process has other settings; it must then be reset.

    Processes of a launcher all have the same settings, so their process group is never reset.
    """
    if not AcceleratorState._shared_state:
        return False
    state = AcceleratorState()
    return bool(PartialState().num_processes == 1) and bool(
        state.mixed_precision != precision or (state.device.type == "cpu") != on_cpu
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for the block (dropout uses them), and restore them after it.

    Generators of GPUs are read only if ``device`` is one, since reading them starts CUDA.
    """
    on_cuda = device.type == "cuda"
    with fork_rng(range(device_count()) if on_cuda else ()):
        if on_cuda:
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield


def place_model(model: AnyNetwork, device: torch.device) -> AnyNetwork:
    """Put a model on the device that trains it, with its convolutions in channels-last layout.

    This layout makes convolutions of images faster, on CUDA and on the CPU. A network with a single
    convolution, such as a transformer's patches, gains nothing; on the CPU, it keeps its layout.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    >>> model = place_model(layers, torch.device("cpu"))
    >>> model[0].weight.is_contiguous(memory_format=torch.channels_last)
    True
    """
    several = sum(isinstance(module, CONVOLUTIONS) for module in model.modules()) > 1
    placed = model.to(device)
    return _with_layout(placed, torch.channels_last) if several or device.type == "cuda" else placed


def release_model(model: AnyNetwork) -> AnyNetwork:
    """Put a trained model on the CPU and in evaluation mode, with the layout of a checkpoint."""
    return _with_layout(model.cpu(), torch.contiguous_format).eval()


def _with_layout(model: AnyNetwork, layout: torch.memory_format) -> AnyNetwork:
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
    return model


def await_device(device: torch.device) -> None:
    """Wait until a GPU has finished its queued work; return at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
