"""The memory of training: reuse of freed memory, and a forecast for large images."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evenhand.networks.inputs import ImageForm, Images, SeriesInputs
from evenhand.networks.model import Model

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
