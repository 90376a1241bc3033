"""What `evenhand pretrain` is told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from evenhand.cohort.settings import SplitSettings
from evenhand.earlier_names import current_settings
from evenhand.networks.registry import SERIES_NAMES
from evenhand.networks.settings import ImageSettings
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.settings import SEEDS
from evenhand.training.settings import PRECISIONS, Precision, TrackSettings

SSL_NAMES = ", ".join(SSL_OBJECTIVES.titles())


class ContrastSettings(TrackSettings, title="Training"):
    """How an encoder is trained on views."""

    ssl: str = Field("simclr", description=f"objective without labels: {SSL_NAMES}")
    teacher_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of itself that a teacher (byol, moco) keeps in the first step; the "
        "share rises to 1 by half a cosine [default: the objective's, .99]",
    )
    epochs: int = Field(60, gt=0, description="most passes over the training patients")
    patience: int = Field(
        10,
        ge=0,
        description="stop after so many epochs without a lower loss on a tenth of the training "
        "patients, held out for that; 0: never, and none is held out, as with byol, moco and "
        "simsiam, whose loss does not tell when",
    )
    batch_size: int = Field(256, gt=1, description="samples a step, of two views each")
    lr: float = Field(1e-3, gt=0, description="highest learning rate, after warm-up")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of AdamW")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where training runs")
    precision: Precision = Field("fp32", description=PRECISIONS)
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of everything that is drawn")

    @model_validator(mode="before")
    @classmethod
    def _take_earlier_names(cls, values: Any) -> Any:
        return current_settings(values, cls.model_fields) if isinstance(values, dict) else values


class PretrainSettings(SplitSettings, ContrastSettings, ImageSettings, title="Model"):
    """Which data, which network, which method."""

    backbone: str = Field(
        "conv1d",
        description=f"for series {SERIES_NAMES}; timm's name of a network for images",
    )
    weights: str = Field(
        "none", description="none (random), pretrained (timm's), a file of weights, or a run"
    )
