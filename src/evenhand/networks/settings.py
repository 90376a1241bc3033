"""Settings of the model and of the size of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from evenhand.networks.inputs import RGB, ImageForm, Images, Size
from evenhand.networks.registry import SERIES_NAMES
from evenhand.settings import Settings

USUAL_SIDE = 224  # pixels; the default side of images
MAX_SIDE = 4096  # pixels; the largest side of images
MAX_CHANNELS = 256


class ChannelSettings(Settings, title="Model"):
    """The setting for the number of channels of images."""

    channels: int | None = Field(
        None,
        ge=1,
        le=MAX_CHANNELS,
        description="channels of the images: 1 (grey), 3 (colours; grey is tripled), or as many as "
        "the arrays of a table have [default: 3]",
    )


class ImageSettings(ChannelSettings, title="Model"):
    """The settings for the size and the channels of images."""

    image_size: Size | None = Field(
        None,
        description="side of the square images in pixels, or HEIGHTxWIDTH as in 512x384 "
        "[default: 224]",
        json_schema_extra={"metavar": "INTEGER|HEIGHTxWIDTH"},
    )

    @field_validator("image_size", mode="before")
    @classmethod
    def _check_size(cls, value: Any) -> Size | None:
        return None if value is None else read_size(value)

    @property
    def images(self) -> Images | None:
        """The size and the channels of images; None for the default, and for series."""
        if self.image_size is None and self.channels is None:
            return None
        size = USUAL_SIDE if self.image_size is None else self.image_size
        height, width = size if isinstance(size, tuple) else (size, size)
        return ImageForm(height, width, self.channels or RGB).plain


def read_size(value: Any) -> Size:
    """Return the size of images from a number, a pair, or text such as 512x384.

    Raises
    ------
    ValueError
        If the value has none of these forms, or is out of range.

    Examples
    --------
    >>> read_size("384"), read_size("512x384"), read_size([384, 384])
    (384, (512, 384), 384)
    """
    parts = value.lower().split("x") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, list | tuple) else [parts]
    whole = [_whole(part) for part in parts]
    sides = [side for side in whole if side is not None and 1 <= side <= MAX_SIDE]
    if not 1 <= len(parts) <= 2 or len(sides) < len(parts):
        raise ValueError(
            f"give the side in pixels, as in 384, or height x width, as in 512x384; from 1 to "
            f"{MAX_SIDE}"
        )
    return sides[0] if sides[0] == sides[-1] else (sides[0], sides[1])


def _whole(part: Any) -> int | None:
    if isinstance(part, str) and part.strip().isdecimal():
        return int(part)
    is_number = isinstance(part, int | float) and not isinstance(part, bool)
    return int(part) if is_number and float(part).is_integer() else None


class ModelSettings(ImageSettings, title="Model"):
    """The settings for the network, its weights and its images."""

    backbone: str = Field(
        "vit_base_patch16_224",
        description=f"timm's name of the network; for series, {SERIES_NAMES}; the name of a "
        "network that --import registers; or a folder that transformers saved",
    )
    weights: str = Field(
        "pretrained",
        description="pretrained (timm's weights, or those of your own network), none (random), a "
        "file of weights (.safetensors, .pth, .pt, .bin, .ckpt), or an earlier run",
    )
    head: Literal["linear", "hidden"] = Field(
        "linear", description="linear, or hidden: 128 units and dropout .6 before it"
    )


def weights_path(weights: str) -> Path | None:
    """Return the file or the run that ``--weights`` names; None for ``pretrained`` and ``none``."""
    return None if weights in ("pretrained", "none") else Path(weights)
