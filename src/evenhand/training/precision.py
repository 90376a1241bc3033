"""Which precision trains a network fastest where it trains."""

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
"""Multiplications for each value that a network's layers write, from which on bf16 is faster.

bf16 makes matrix products faster and adds casts to everything else. Measured on an AMD EPYC
(docs/speed.md): it is slower at 30 and faster from 110 on.
"""


class _Trained(Protocol):
    """What the choice of a precision reads of a job's settings."""

    @property
    def backbone(self) -> str: ...
    @property
    def images(self) -> Images | None: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self: ...


AnyTrained = TypeVar("AnyTrained", bound=_Trained)


def settle_precision(settings: AnyTrained) -> AnyTrained:
    """Return settings with ``auto`` replaced by the precision that is fastest here."""
    if settings.precision != "auto":
        return settings
    return settings.model_copy(update={"precision": fastest_precision(settings)})


def fastest_precision(settings: _Trained) -> Precision:
    """Return the precision that trains the network of the settings fastest here.

    It is bf16 on a GPU that has it. On a CPU, bf16 needs a processor that multiplies it
    (``avx512_bf16`` or ``amx_bf16``) and images whose network does many products for each value
    that it writes: a ResNet or a ViT, not an EfficientNet. Otherwise, for series and for networks
    of your own on a CPU, it is fp32.
    """
    if settings.device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    name = settings.backbone
    if not multiplies_half() or name in SERIES_ENCODERS or is_own(name):
        return "fp32"
    images = ImageForm.of(USUAL_SIDE if settings.images is None else settings.images)
    with torch.random.fork_rng(devices=[]):
        network = create_backbone(name, "none", images)
    blank = torch.zeros(1, images.channels, images.height, images.width)
    return "bf16" if products_per_value(network, blank) >= FEWEST_PRODUCTS else "fp32"


def products_per_value(network: nn.Module, inputs: Tensor) -> float:
    """Return how many multiplications a forward pass does for each value that its layers write.

    Those of convolutions and linear layers are counted.

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
