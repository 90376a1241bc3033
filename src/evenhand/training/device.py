"""The device, the precision and the memory of training."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.cuda import device_count, is_available
from torch.random import fork_rng

from evenhand.errors import EvenhandError
from evenhand.networks.inputs import ImageForm, Images, SeriesInputs
from evenhand.networks.model import Model
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


LARGE = 512 * 512
"""Images with fewer pixels get no forecast, because it takes one forward pass."""
GIGABYTE = 10**9
LARGEST_INT = 2**31 - 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc allows no more


def reuse_freed_memory() -> None:
    """Let the allocator of glibc keep freed memory in this process for the next tensors.

    By default it returns freed memory to the system at once, so every step of training gets its
    activations as new pages, which the system first fills with zeros. Blocks of 32 MiB or more are
    still returned: without that, the memory of a fit grew by a third. Other allocators do not
    change. Results do not depend on it.
    """
    if sys.platform == "linux":
        allocator = ctypes.CDLL(None)
        if hasattr(allocator, "mallopt"):
            allocator.mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
            allocator.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)


def activation_bytes(model: Model) -> int:
    """Return the bytes of activations that a backward pass through all layers needs per sample.

    They are counted in a forward pass of one sample of zeros, in the precision of the weights. A
    tensor that several layers share counts once; weights do not count.

    Examples
    --------
    >>> from evenhand.networks.model import build_model
    >>> activation_bytes(build_model("test_resnet", "none", 64, ("a", "b"), 0)) > 64 * 64 * 3 * 4
    True
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, Tensor] = {}  # alive until the end, so no address is reused

    def save(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    device = next(model.parameters()).device
    training = model.training
    try:
        with (
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
        ):
            model.eval()(torch.zeros(1, *model.spec.inputs.shape, device=device))
    finally:
        model.train(training)
    sizes = (t.untyped_storage().nbytes() for key, t in saved.items() if key not in weights)
    return sum(sizes)


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory for tensors in bytes; None if the system does not report it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes: dict[str, Any] = dict(line.split(":", 1) for line in lines)
    kilobytes = str(sizes.get("MemAvailable", "")).split()
    return int(kilobytes[0]) * 1024 if kilobytes else None


def memory_warning(model: Model, batch_size: int, device: torch.device) -> str | None:
    """Return a sentence if a step on large images will not fit in the free memory, else None."""
    shape = model.spec.inputs.shape
    free = free_bytes(device)
    if len(shape) < 3 or shape[1] * shape[2] < LARGE or free is None:
        return None
    per_sample = activation_bytes(model)
    if per_sample * batch_size <= free:
        return None
    height, width = shape[1:]
    return (
        f"A step on {batch_size} images of {height} x {width} pixels holds about "
        f"{per_sample * batch_size / GIGABYTE:.1f} GB of activations when everything is tuned, "
        f"and {free / GIGABYTE:.1f} GB are free. Give --batch-size "
        f"{max(1, free // (2 * per_sample))}, a smaller --image-size, or tune less of the network."
    )


def warn_of_memory(
    build_model: Callable[[], Model],
    inputs: Images | SeriesInputs,
    batch_size: int,
    device: torch.device,
) -> None:
    """Log a warning if a step on large images will not fit; other images build no model."""
    if isinstance(inputs, SeriesInputs):
        return
    form = ImageForm.of(inputs)
    if form.height * form.width < LARGE:
        return
    warning = memory_warning(build_model(), batch_size, device)
    if warning is not None:
        logging.getLogger(__name__).warning(warning)
