"""The settings of `evenhand assess`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from evenhand.evaluation.settings import ChoiceSettings
from evenhand.experiments.settings import TrainingSettings
from evenhand.jobs.pretrain.settings import SSL_NAMES
from evenhand.networks.registry import SERIES_NAMES
from evenhand.workers import WorkerSettings

SUPERVISED, SCRATCH = "supervised", "scratch"
LABELLED = (SUPERVISED, SCRATCH)
"""Cells without pre-training: they start from --weights, and from random weights."""
OBJECTIVE = "simclr"
"""The default objective of pre-training."""
CELLS = (
    *("frozen3", "frozen2", "frozen2fl", "frozen1", "frozen1m", "frozen0", "gradual"),
    SUPERVISED,
)


class AssessSettings(TrainingSettings, ChoiceSettings, WorkerSettings, title="Assessment"):
    """The grid of cells, and the training recipe that all cells share."""

    backbone: str = Field(
        "conv1d", description=f"for series {SERIES_NAMES}; timm's name of a network for images"
    )
    weights: str = Field(
        "none",
        description="starting weights of pre-training and of the cell supervised: none (random), "
        "pretrained, a file of weights, or a run",
    )
    head: Literal["linear", "hidden"] = Field(
        "hidden", description="linear; or hidden: a layer of 128 units and dropout .6 before it"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "balanced", description="balanced: weigh each class by the inverse of its share"
    )
    epochs: int = Field(20, gt=0, description="passes of each fit over its training patients")
    batch_size: int = Field(128, gt=1, description="samples per step")
    patience: int = Field(
        5, ge=0, description="stop after so many epochs without a better validation score; 0: never"
    )
    lr: float = Field(1e-3, gt=0, description="highest learning rate of every fit, after warm-up")
    ssl: tuple[str, ...] = Field(
        (),
        description=f"objective of pre-training: {SSL_NAMES}; repeatable [default: simclr, or no "
        "pre-training if --encoder is given]",
    )
    encoder: tuple[str, ...] = Field(
        (),
        description="external encoder, which is not pre-trained here: a run, a file of weights, or "
        "pretrained (timm's); NAME=PATH names it; repeatable",
    )
    pretrain_epochs: int = Field(60, gt=0, description="passes of pre-training, at most")
    pretrain_patience: int = Field(
        10,
        ge=0,
        description="stop pre-training after so many epochs without a lower loss on held-out "
        "training patients; 0: never stop early, and hold no patients out",
    )
    pretrain_lr: float = Field(1e-3, gt=0, description="highest learning rate of pre-training")
    cell: tuple[str, ...] = Field(
        CELLS,
        description="strategy to compare with supervised; scratch is supervised training from "
        "random weights, if --weights names others; repeatable",
    )
    label_share: tuple[float, ...] = Field(
        (1.0,),
        description="share of the training patients whose labels are used: 0.1, 10%, or several "
        "as in 1,5,10,20,50,100 (if a number is above 1, all are per cent); repeatable",
    )
    equal_compute: bool = Field(
        False,
        description="train supervised and scratch for as many passes of samples as pre-training "
        "and fine-tuning together, and keep their best epoch",
    )
    prefix_memory: int = Field(
        2000,
        ge=0,
        description="megabytes of memory in each worker (GPU memory if it trains on a GPU) for "
        "activations of frozen layers, which epochs, shares of labels and cells with the same "
        "encoder share; 0: compute them in every step",
    )
    seeds: int = Field(3, gt=0, description="models of each cell, each with a different seed")

    @property
    def objectives(self) -> tuple[str, ...]:
        """The self-supervised objectives of pre-training."""
        return self.ssl or (() if self.encoder else (OBJECTIVE,))

    @field_validator("ssl", mode="before")
    @classmethod
    def _take_one(cls, ssl: object) -> object:
        return (ssl,) if isinstance(ssl, str) else ssl  # earlier runs recorded one text

    @field_validator("cell")
    @classmethod
    def _with_baseline(cls, cell: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        is_random = info.data.get("weights") == "none"  # then supervised and scratch are the same
        named = (SUPERVISED if is_random and name == SCRATCH else name for name in cell)
        cells = tuple(dict.fromkeys((*named, SUPERVISED)))
        if not set(cells) - set(LABELLED):
            raise ValueError(
                f"name at least one cell besides {' and '.join(LABELLED)}, as in frozen1m"
            )
        return cells

    @field_validator("equal_compute")
    @classmethod
    def _has_pretraining(cls, equal: bool, info: ValidationInfo) -> bool:
        if equal and info.data.get("encoder") and not info.data.get("ssl"):
            raise ValueError(
                "the compute of the encoders of --encoder is unknown. Name an objective with "
                "--ssl, or leave --equal-compute out"
            )
        return equal

    @field_validator("label_share", mode="before")
    @classmethod
    def _as_shares(cls, value: object) -> object:
        return parse_shares(value) if isinstance(value, list | tuple) else value

    @field_validator("label_share")
    @classmethod
    def _are_shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share <= 1 for share in shares):
            raise ValueError(f"{shares}: give shares above 0, up to 1 (or 100 %)")
        return tuple(sorted(set(shares), reverse=True))


def parse_shares(values: Sequence[object]) -> tuple[object, ...]:
    """Return shares from numbers and texts; return the values unchanged if one is no number.

    Examples
    --------
    >>> parse_shares(["1,5,100"]), parse_shares(["1%", 0.5]), parse_shares(["1"])
    ((0.01, 0.05, 1.0), (0.01, 0.5), (1.0,))
    """
    texts = [part.strip() for value in values for part in str(value).split(",")]
    try:
        numbers = [float(text.removesuffix("%")) for text in texts]
    except ValueError:
        return tuple(values)
    per_cent = any(
        number > 1 for number, text in zip(numbers, texts, strict=True) if "%" not in text
    )
    return tuple(
        number / 100 if per_cent or text.endswith("%") else number
        for number, text in zip(numbers, texts, strict=True)
    )
