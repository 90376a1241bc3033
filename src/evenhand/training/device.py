"""The device, the precision and the memory of training."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.cuda import device_count, is_available
from torch.random import fork_rng

from evenhand.errors import EvenhandError
from evenhand.networks.backbones import create_backbone
from evenhand.networks.inputs import ImageForm, Images, SeriesInputs
from evenhand.networks.model import Model
from evenhand.networks.own import is_own
from evenhand.networks.registry import SERIES_ENCODERS
from evenhand.networks.settings import USUAL_SIDE
from evenhand.training.settings import LoopSettings, Precision

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


FEWEST_PRODUCTS = 100
"""Smallest number of multiplications per output value of a network's layers for bf16 on a CPU.

bf16 makes matrix products faster, but adds casts to all other operations. Measured on an AMD EPYC
(docs/results/speed.md), it is slower at 30 and faster from 110 on.
"""


class _TrainingSettings(Protocol):
    """The settings of a job on which the choice of a precision depends."""

    @property
    def backbone(self) -> str: ...
    @property
    def images(self) -> Images | None: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self: ...


AnyTrainingSettings = TypeVar("AnyTrainingSettings", bound=_TrainingSettings)


def settle_precision(settings: AnyTrainingSettings) -> AnyTrainingSettings:
    """Return settings with the precision ``auto`` replaced by the fastest one on this machine."""
    if settings.precision != "auto":
        return settings
    return settings.model_copy(update={"precision": fastest_precision(settings)})


def fastest_precision(settings: _TrainingSettings) -> Precision:
    """Return the precision that trains the settings' network fastest on this machine.

    On a GPU it is bf16 if the GPU supports it, else fp32. On a CPU it is bf16 if the processor
    multiplies bf16 (``avx512_bf16`` or ``amx_bf16``) and the network, of images, does at least
    `FEWEST_PRODUCTS` multiplications per output value (a ResNet or a ViT, not an EfficientNet);
    otherwise, and for encoders of series and users' own networks, it is fp32.
    """
    if settings.device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    name = settings.backbone
    if not multiplies_half() or name in SERIES_ENCODERS or is_own(name):
        return "fp32"
    images = ImageForm.of(USUAL_SIDE if settings.images is None else settings.images)
    with torch.random.fork_rng(devices=[]):
        network = create_backbone(name, "none", images)
    sample = torch.zeros(1, images.channels, images.height, images.width)
    return "bf16" if products_per_value(network, sample) >= FEWEST_PRODUCTS else "fp32"


def products_per_value(network: nn.Module, inputs: Tensor) -> float:
    """Return the number of multiplications of a forward pass per output value of its layers.

    Only multiplications of convolutions and linear layers are counted.

    Examples
    --------
    >>> products_per_value(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.ones(1, 8))
    4.0
    """
    products, values = 0, 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal products, values
        values += out.numel()
        if isinstance(layer, nn.Linear | nn.Conv2d):
            products += out.numel() * layer.weight[0].numel()

    leaves = [layer for layer in network.modules() if not any(layer.children())]
    leaves = [layer for layer in leaves if not isinstance(layer, nn.Identity)]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    try:
        with torch.no_grad():
            network.eval()(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return products / values


def multiplies_half() -> bool:
    """Whether this processor multiplies matrices of bf16."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
