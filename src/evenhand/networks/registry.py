"""The registries of encoders of series and of users' networks; importing them is cheap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evenhand.errors import EvenhandError
from evenhand.registry import Registry

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class OwnBackbone:
    """A registered network; for the attributes see the parameters of `register_backbone`."""

    name: str
    make: Callable[..., nn.Module]
    head: str | None
    layers: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


BACKBONES: Registry[OwnBackbone] = Registry("backbone")
"""Name → a network that a user registered."""

MakeEncoder = Callable[[int, int], "nn.Module"]
"""Function of 2C and T; it returns an encoder of series ``(B, 2C, T)``: C values, then C masks.

The encoder's ``head_hidden_size`` is the width of its features."""

SERIES_ENCODERS: Registry[MakeEncoder] = Registry(
    "encoder of series", "networks/encoders", ("register_series_encoder",)
)
"""Name → function that makes an encoder of series of Evenhand."""


def register_series_encoder(name: str) -> Callable[[MakeEncoder], MakeEncoder]:
    """Register the decorated function; the first line of its docstring is the title."""

    def register(make: MakeEncoder) -> MakeEncoder:
        title = (make.__doc__ or "").partition("\n")[0]
        SERIES_ENCODERS.add(name, make, module=make.__module__, title=title)
        return make

    return register


SERIES_NAMES = ", ".join(SERIES_ENCODERS.titles())
"""The names of the encoders of series, for help texts."""


def register_backbone(
    name: str,
    make: Callable[..., nn.Module],
    *,
    head: str | None = None,
    layers: Sequence[str] = (),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> None:
    """Register a network of your own under the name that ``--backbone`` takes.

    Parameters
    ----------
    name
        The name of the network for ``--backbone``.
    make
        Function that returns the network. It may have the parameters ``size`` (the side of the
        images in pixels, or height and width), ``channels`` (of the input: 3 or ``--channels`` for
        images; for series twice their channels, values and then whether they were observed) and
        ``steps`` (of series). ``--weights pretrained`` keeps the network's weights; with
        ``--weights none`` every layer is reset by its ``reset_parameters``.
    head
        The name of the classifier (``"fc"``), which is removed. None: the network returns features
        ``(B, D)``.
    layers
        The names of its stages, from input to output. Each stage's convolutions and norms become
        units of masks, and representations are read after each stage. By default, the network is
        divided by its structure (see `units_of`).
    mean, std
        Mean and standard deviation by channel of images in [0, 1] that the network expects. For
        another number of channels, their average is used; series have their own.

    Raises
    ------
    EvenhandError
        If a backbone or an encoder of series has the name, or ``mean`` and ``std`` are not one
        number per channel.

    Examples
    --------
    >>> from torch import nn
    >>> def make() -> nn.Module:
    ...     return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> register_backbone("tiny-example", make)
    >>> BACKBONES.remove("tiny-example")
    """
    if not len(mean) or len(mean) != len(std) or min(std) <= 0:
        raise EvenhandError(
            f"backbone {name!r}: give one number per channel for mean and std, and std above 0; "
            f"given are {tuple(mean)} and {tuple(std)}."
        )
    if name in SERIES_ENCODERS.titles():
        raise EvenhandError(
            f"backbone {name!r} is Evenhand's own encoder of series; register yours under another "
            "name."
        )
    backbone = OwnBackbone(name, make, head, tuple(layers), tuple(mean), tuple(std))
    title = (make.__doc__ or "").partition("\n")[0]
    BACKBONES.add(name, backbone, module=getattr(make, "__module__", "") or "", title=title)
