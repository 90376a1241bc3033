"""Settings of the training of one model."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from pydantic import Field, field_validator

from evenhand.settings import SEEDS, Settings

TrackerName = Literal["tensorboard", "mlflow", "wandb"]

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS = (
    "bf16 is faster on GPUs and, for ResNets and ViTs, on processors that multiply it (autocast); "
    "auto is bf16 there, else fp32"
)
"""Help text of ``--precision``."""


class TrackSettings(Settings, title="Training"):
    """Experiment trackers."""

    unrecorded = frozenset({"track"})

    track: tuple[TrackerName, ...] = Field(
        (),
        description="tracker that follows each training epoch by epoch: tensorboard, mlflow or "
        "wandb; repeatable",
    )

    @field_validator("track")
    @classmethod
    def _check_installed(cls, value: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        if missing := [name for name in value if find_spec(name) is None]:
            raise ValueError(f"{missing[0]} is not installed: pip install {' '.join(missing)}")
        return value


class LoopSettings(TrackSettings, title="Training"):
    """Settings of training: AdamW with warm-up and cosine decay by steps, cross-entropy."""

    epochs: int = Field(10, gt=0, description="passes over the training split")
    batch_size: int = Field(64, gt=0, description="samples a step, over all devices")
    weight_decay: float = Field(
        0.01, ge=0, description="weight decay of matrices; biases and norms have none"
    )
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="factor on the learning rate for each layer below the head [default: 0.75 for "
        "gradual, else 1]",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps spent on warm-up")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the probability that is taken from the true class"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced weighs each class by the inverse of its share"
    )
    patience: int = Field(
        0,
        ge=0,
        description="stop after this many epochs without a better validation score; 0: never",
    )
    augment: Literal["auto", "none", "upright", "free"] = Field(
        "auto",
        description="augmentation of images; upright: mirror, crop, colour; free: also flips and "
        "quarter turns; auto: upright for images, none for series",
    )
    views: int = Field(
        0,
        ge=0,
        description="augmented views of each sample, which epochs use in turn; 0: one per epoch",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where training runs")
    precision: Precision = Field("fp32", description=PRECISIONS)
    compile: bool = Field(
        False,
        description="compile the network first (torch.compile); pays off in long fits on CUDA",
    )
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of all random draws")


class FitSettings(LoopSettings, title="Training"):
    """Settings of one fit, with its learning rate."""

    lr: float = Field(1e-4, gt=0, description="highest learning rate, after warm-up")
