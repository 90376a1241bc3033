"""The settings of `evenhand pretrain`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from evenhand.cohort.settings import SplitSettings
from evenhand.networks.registry import SERIES_NAMES
from evenhand.networks.settings import ImageSettings
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.settings import SEEDS, current_settings
from evenhand.training.settings import PRECISIONS, Precision, TrackSettings

SSL_NAMES = ", ".join(SSL_OBJECTIVES.titles())


class ContrastSettings(TrackSettings, title="Training"):
    """The self-supervised training of an encoder."""

    ssl: str = Field("simclr", description=f"self-supervised objective: {SSL_NAMES}")
    teacher_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="momentum of the teacher (byol, moco) in the first step; it rises to 1 along "
        "half a cosine [default: the objective's, .99]",
    )
    epochs: int = Field(60, gt=0, description="passes over the training patients, at most")
    patience: int = Field(
        10,
        ge=0,
        description="stop after so many epochs without a lower loss on held-out patients, a tenth "
        "of the training patients; 0: never stop early, and hold no patients out, as always with "
        "byol, moco and simsiam, whose loss does not show when to stop",
    )
    batch_size: int = Field(256, gt=1, description="samples per step, with two views each")
    lr: float = Field(1e-3, gt=0, description="highest learning rate, after warm-up")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of AdamW")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where training runs")
    precision: Precision = Field("fp32", description=PRECISIONS)
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of all random numbers")

    @model_validator(mode="before")
    @classmethod
    def _take_earlier_names(cls, values: Any) -> Any:
        return current_settings(values, cls.model_fields) if isinstance(values, dict) else values


class PretrainSettings(SplitSettings, ContrastSettings, ImageSettings, title="Model"):
    """The data, the network and the objective."""

    backbone: str = Field(
        "conv1d", description=f"for series {SERIES_NAMES}; timm's name of a network for images"
    )
    weights: str = Field(
        "none", description="none (random), pretrained (timm's), a file of weights, or a run"
    )
