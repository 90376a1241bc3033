"""What a command asks of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from evenhand.networks.registry import SERIES_NAMES
from evenhand.settings import Settings

MAX_SIDE = 4096  # pixels of the images that a network takes


class ModelSettings(Settings, title="Model"):
    """Which network, from which weights, at which size."""

    backbone: str = Field(
        "vit_base_patch16_224",
        description=f"timm's name of the network, for series {SERIES_NAMES}, the name of one that "
        "--import registers, or a folder that transformers saved",
    )
    weights: str = Field(
        "pretrained",
        description="pretrained (timm's, or those that a network of your own comes with), none "
        "(random), a file of weights (.safetensors, .pth, .pt, .bin, .ckpt), or an earlier run",
    )
    image_size: int | None = Field(
        None, gt=0, le=MAX_SIDE, description="side of the square images, in pixels [default: 224]"
    )
    head: Literal["linear", "hidden"] = Field(
        "linear", description="linear, or hidden: 128 units and dropout .6 before it"
    )


def weights_path(weights: str) -> Path | None:
    """Return the file or the run that ``--weights`` names, if it names one."""
    return None if weights in ("pretrained", "none") else Path(weights)
