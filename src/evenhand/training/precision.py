"""The precision that trains a network fastest on its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from evenhand.networks.backbones import create_backbone
from evenhand.networks.inputs import ImageForm, Images
from evenhand.networks.own import is_own
from evenhand.networks.registry import SERIES_ENCODERS
from evenhand.networks.settings import USUAL_SIDE
from evenhand.training.settings import Precision

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
