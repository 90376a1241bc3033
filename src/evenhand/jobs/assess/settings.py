"""What `evenhand assess` is told."""

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
"""Cells that are trained on labels alone: from --weights, and from random weights."""
OBJECTIVE = "simclr"
CELLS = (
    *("frozen3", "frozen2", "frozen2fl", "frozen1", "frozen1m", "frozen0", "gradual"),
    SUPERVISED,
)


class AssessSettings(TrainingSettings, ChoiceSettings, WorkerSettings, title="Assessment"):
    """The grid of fits, and one recipe for all of them."""

    backbone: str = Field(
        "conv1d",
        description=f"for series {SERIES_NAMES}; timm's name of a network for images",
    )
    weights: str = Field(
        "none",
        description="weights that pre-training and supervised start from: none (random), "
        "pretrained, a file of weights, a run",
    )
    head: Literal["linear", "hidden"] = Field(
        "hidden", description="linear, or hidden: 128 units and dropout .6 before it"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "balanced", description="balanced weighs each class by the inverse of its share"
    )
    epochs: int = Field(20, gt=0, description="passes of each fit over its training patients")
    batch_size: int = Field(128, gt=1, description="samples a step")
    patience: int = Field(
        5, ge=0, description="stop after so many epochs without a better validation score; 0: never"
    )
    lr: float = Field(1e-3, gt=0, description="highest learning rate of every fit, after warm-up")
    ssl: tuple[str, ...] = Field(
        (),
        description=f"objective of pre-training: {SSL_NAMES}; repeatable [default: simclr, "
        "and nothing is pre-trained where --encoder is given]",
    )
    encoder: tuple[str, ...] = Field(
        (),
        description="encoder made elsewhere, judged without pre-training: a run, a file of "
        "weights, or pretrained (timm's); NAME=PATH names it; repeatable",
    )
    pretrain_epochs: int = Field(60, gt=0, description="most passes of pre-training")
    pretrain_patience: int = Field(
        10,
        ge=0,
        description="stop pre-training after so many epochs without a lower loss on training "
        "patients held out for that; 0: never, and none is held out",
    )
    pretrain_lr: float = Field(1e-3, gt=0, description="highest learning rate of pre-training")
    cell: tuple[str, ...] = Field(
        CELLS,
        description="strategy to compare with supervised; scratch trains on labels from random "
        "weights where --weights names others; repeatable",
    )
    label_share: tuple[float, ...] = Field(
        (1.0,),
        description="share of the training patients whose labels are used: 0.1, 10%, or several "
        "as in 1,5,10,20,50,100 (of a list with a number above 1, all are per cent); repeatable",
    )
    equal_compute: bool = Field(
        False,
        description="supervised and scratch train for as many passes of samples as pre-training "
        "and fine-tuning together, and keep their best epoch",
    )
    prefix_memory: int = Field(
        2000,
        ge=0,
        description="megabytes of memory (the GPU's where one trains), in each worker, for kept "
        "activations of frozen layers, which epochs, shares of labels and cells with one encoder "
        "share; 0: compute them in every step",
    )
    seeds: int = Field(3, gt=0, description="models of each cell, with seeds of their own")

    @property
    def objectives(self) -> tuple[str, ...]:
        """The SSL objectives that encoders are pre-trained with."""
        return self.ssl or (() if self.encoder else (OBJECTIVE,))

    @field_validator("ssl", mode="before")
    @classmethod
    def _take_one(cls, ssl: object) -> object:
        return (ssl,) if isinstance(ssl, str) else ssl  # as earlier runs keep it

    @field_validator("cell")
    @classmethod
    def _with_baseline(cls, cell: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        random = info.data.get("weights") == "none"  # supervised starts from these, then
        named = (SUPERVISED if random and name == SCRATCH else name for name in cell)
        cells = tuple(dict.fromkeys((*named, SUPERVISED)))
        if not set(cells) - set(LABELLED):
            raise ValueError(
                f"name one cell at least besides {' and '.join(LABELLED)}, as in frozen1m"
            )
        return cells

    @field_validator("equal_compute")
    @classmethod
    def _has_pretraining(cls, equal: bool, info: ValidationInfo) -> bool:
        if equal and info.data.get("encoder") and not info.data.get("ssl"):
            raise ValueError(
                "what it took to make the encoders of --encoder is not known; name an objective "
                "with --ssl, or leave --equal-compute out"
            )
        return equal

    @field_validator("label_share", mode="before")
    @classmethod
    def _as_shares(cls, value: object) -> object:
        return shares_of(value) if isinstance(value, list | tuple) else value

    @field_validator("label_share")
    @classmethod
    def _are_shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share <= 1 for share in shares):
            raise ValueError(f"{shares}: give shares above 0, up to 1 (or 100 %)")
        return tuple(sorted(set(shares), reverse=True))


def shares_of(values: Sequence[object]) -> tuple[object, ...]:
    """Return shares from numbers and texts; what is neither is left as it is.

    Examples
    --------
    >>> shares_of(["1,5,100"]), shares_of(["1%", 0.5]), shares_of(["1"])
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
