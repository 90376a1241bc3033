"""What a command asks of a model."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ModelSettings(BaseModel, frozen=True, extra="forbid"):
    """Which network, from which weights, at which size."""

    backbone: str = Field("vit_base_patch16_224", description="timm's name of the network")
    weights: str = Field(
        "pretrained",
        description="pretrained (timm's), none (random), a .safetensors file, or an earlier run",
    )
    image_size: int = Field(224, gt=0, description="side of the square images, in pixels")
