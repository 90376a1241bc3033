"""The registers of encoders of series and of networks of one's own, which load nothing heavy."""

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
    """A network of one's own, and how it is used; see `register_backbone`."""

    name: str
    make: Callable[..., nn.Module]
    head: str | None
    layers: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


BACKBONES: Registry[OwnBackbone] = Registry("backbone")
"""The networks that are not timm's, by name."""

MakeEncoder = Callable[[int, int], "nn.Module"]
"""From the channels that are read (values, then whether they were observed) and the steps to an
encoder of series ``(B, 2C, T)``, whose ``head_hidden_size`` is the width of its features."""

SERIES_ENCODERS: Registry[MakeEncoder] = Registry(
    "encoder of series", "networks/encoders", ("register_series_encoder",)
)
"""The encoders of series that come with Evenhand, by name."""


def register_series_encoder(name: str) -> Callable[[MakeEncoder], MakeEncoder]:
    """Register the decorated function; the first line of its docstring is the title."""

    def register(make: MakeEncoder) -> MakeEncoder:
        title = (make.__doc__ or "").partition("\n")[0]
        SERIES_ENCODERS.add(name, make, module=make.__module__, title=title)
        return make

    return register


SERIES_NAMES = ", ".join(SERIES_ENCODERS.titles())
"""The encoders of series as help texts list them."""


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
        What ``--backbone`` calls it.
    make
        Returns the network. Of ``size`` (the side of the images in pixels; height and width of
        those that are no squares), ``channels`` (of what it reads: 3 for images unless
        ``--channels`` says; for series twice the channels, values and then whether they were
        observed) and ``steps`` (of series) it gets those that are parameters of it. What weights
        it has then are those of ``--weights pretrained``; with ``--weights none`` every layer is
        reset by its ``reset_parameters``.
    head
        The name of its classifier (``"fc"``), which is taken off. None: it returns features
        ``(B, D)`` already.
    layers
        Names of its stages, from input to output: a mask then switches the convolutions and norms
        of each, and representations are read behind each. By default the network is cut by its
        structure (see `units_of`).
    mean, std
        Scale of the images, in [0, 1], that it was made for, by channel. Images of another number
        of channels have the average of them; series have their own.

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
            f"backbone {name!r}: mean and std are one number per channel each, those of std above "
            f"0; given are {tuple(mean)} and {tuple(std)}."
        )
    if name in SERIES_ENCODERS.titles():
        raise EvenhandError(
            f"backbone {name!r} is Evenhand's own encoder of series; register yours under another "
            "name."
        )
    backbone = OwnBackbone(name, make, head, tuple(layers), tuple(mean), tuple(std))
    title = (make.__doc__ or "").partition("\n")[0]
    BACKBONES.add(name, backbone, module=getattr(make, "__module__", "") or "", title=title)
