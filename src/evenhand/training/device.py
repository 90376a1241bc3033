"""Where training runs, and with which precision."""

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
from evenhand.training.settings import LoopSettings

Network = TypeVar("Network", bound=nn.Module)

PATIENCE = timedelta(days=1)
"""How long processes wait for one that decodes the samples or keeps activations for all of them.

A launcher ends the others when one dies, so that nobody waits for the dead.
"""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def make_accelerator(settings: LoopSettings) -> Accelerator:
    """Return the accelerator that the settings ask for: CUDA or the CPU.

    Raises
    ------
    EvenhandError
        CUDA was asked for and there is none.
    """
    if settings.device == "cuda" and not is_available():
        raise EvenhandError(
            "--device cuda: torch sees no CUDA device here. Give --device cpu, or install a CUDA "
            "build of torch."
        )
    # Without CUDA accelerate would take other devices, such as Apple's, which lack float64.
    on_cpu = settings.device == "cpu" or not is_available()
    assert settings.precision != "auto", "a job settles the precision first"
    precision = {"fp32": "no", "bf16": "bf16"}[settings.precision]
    if _differs(on_cpu, precision):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    # A schedule may freeze in one epoch what it tunes in another.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[parallel, patience])


def _differs(on_cpu: bool, precision: str) -> bool:
    """Whether this process holds accelerate's state of other settings, which it refuses to change.

    A launcher's processes all have one setting, so their process group is never dropped.
    """
    if not AcceleratorState._shared_state:
        return False
    state = AcceleratorState()
    return bool(PartialState().num_processes == 1) and bool(
        state.mixed_precision != precision or (state.device.type == "cpu") != on_cpu
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what torch draws by itself, as dropout does, for the block; afterwards all is as before.

    The states of GPUs are touched only where one trains: to ask for them would start CUDA.
    """
    on_cuda = device.type == "cuda"
    with fork_rng(range(device_count()) if on_cuda else ()):
        if on_cuda:
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield


def place_model(model: Network, device: torch.device) -> Network:
    """Put a model on the device that trains it, with the channels of its convolutions last.

    Convolutions of images are faster so, on CUDA and on the CPU. A network with a single one, such
    as the patches of a transformer, gains nothing and stays as it is on the CPU.

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


def release_model(model: Network) -> Network:
    """Put a trained model on the CPU and in evaluation mode, with the layout of a checkpoint."""
    return _with_layout(model.cpu(), torch.contiguous_format).eval()


def _with_layout(model: Network, layout: torch.memory_format) -> Network:
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
    return model


def await_device(device: torch.device) -> None:
    """Wait until a device has done what it was given; a GPU works behind the caller's back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
