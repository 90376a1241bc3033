"""What `evenhand finetune` is told."""

from __future__ import annotations

from pydantic import Field

from evenhand.cohort.settings import SplitSettings
from evenhand.networks.settings import ModelSettings
from evenhand.settings import Settings
from evenhand.training.settings import FitSettings, LoopSettings


class ObjectiveSettings(Settings, title="Objective"):
    """What a model is judged by on validation patients."""

    objective: tuple[str, ...] = Field(
        ("overall_auc",),
        min_length=1,
        description="validation score: min_auc, auc_gap, overall_auc, min_acc, acc_gap, "
        "overall_acc (threshold fitted on the same rows; min_acc_argmax … decide for the higher "
        "score), max_loss; min_auc:age is about one attribute alone; repeatable, and patience goes "
        "by the first",
    )
    objective_bound: bool = Field(
        False,
        description="judge by the pessimistic end of the objective's 95 % interval over patients",
    )
    exclude_group: tuple[str, ...] = Field(
        (), description='group that the objective and gaps leave out: "age=under 20"; repeatable'
    )


class TrainingSettings(
    SplitSettings,
    ModelSettings,
    ObjectiveSettings,
    LoopSettings,
    frozen=True,
    extra="forbid",
    title="Training",
):
    """What every job that trains is told."""

    machine = frozenset({"prefix_memory", "prefix_disk"})

    prefix_memory: int = Field(
        0,
        ge=0,
        description="megabytes of memory (the GPU's where one trains), in each worker, for kept "
        "activations of frozen layers, which epochs and trials then share; 0: compute them in "
        "every step",
    )
    prefix_disk: int = Field(
        20_000,
        gt=0,
        description="megabytes on disk for kept activations, in the --cache folder; where those of "
        "an epoch take more, they are computed in every step; a GPU keeps none on disk",
    )


class MethodSettings(Settings, title="Method"):
    """The mitigation method that a model is trained with."""

    method: str = Field(
        "erm",
        description="mitigation method of training (`evenhand methods` lists them); "
        "NAME:SETTING=VALUE,… changes its settings, as in group-dro:rate=0.1",
    )
    method_attribute: str | None = Field(
        None,
        description="attribute whose groups the method works with [default: the first --attribute]",
    )


class LabelSettings(Settings, title="Training"):
    """How many of the training patients have labels."""

    label_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="train on a share of the training patients only; smaller shares of one seed "
        "are parts of larger ones",
    )


class FinetuneSettings(
    TrainingSettings, LabelSettings, MethodSettings, FitSettings, title="Strategy"
):
    """One strategy, one fit."""

    strategy: str = Field(
        "full",
        description="full, scratch, head, last-K, attention, layernorm, bitfit, lora[:BLOCK,…], "
        "gradual[:K], random:SEED, the freeze grid (frozen3, frozen2, frozen2fl, frozen1, "
        "frozen1m, frozen0, supervised), a mask family (mlp, norm-attn-mlp, stages …), or units "
        "joined by commas",
    )
