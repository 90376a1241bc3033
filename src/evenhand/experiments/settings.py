"""Settings of `evenhand finetune`, and those that all jobs that train share."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from evenhand.cohort.settings import SplitSettings
from evenhand.evaluation.settings import ProbeSettings
from evenhand.masks.registry import STRATEGIES
from evenhand.networks.settings import ModelSettings
from evenhand.settings import Settings, current_settings
from evenhand.training.settings import FitSettings, LoopSettings

TARGETS = (
    "a metric (its value for everybody: auc), a metric with _worst, _best, _gap or _min_ratio over "
    "the groups (auc_worst, log_loss_gap), or a fairness metric (equalized_odds_difference), of "
    "`evenhand audit --list-metrics`; decisions use a threshold fitted on the same rows, or with "
    "_argmax (accuracy_worst_argmax) the higher score; auc_worst:age is about one attribute only"
)
"""The values of ``--target``, for its help."""


class TargetSettings(Settings, title="Target"):
    """The targets that judge a model on validation patients."""

    target: tuple[str, ...] = Field(
        ("auc",),
        min_length=1,
        description=f"validation score: {TARGETS}; repeatable; the first decides early stopping",
    )
    pessimistic: bool = Field(
        False, description="judge by the worse end of the target's 95 % interval over patients"
    )
    exclude_group: tuple[str, ...] = Field(
        (), description='group that the target and gaps leave out: "age=under 20"; repeatable'
    )

    @model_validator(mode="before")
    @classmethod
    def _take_earlier_names(cls, values: Any) -> Any:
        return current_settings(values, cls.model_fields) if isinstance(values, dict) else values


class TrainingSettings(
    SplitSettings,
    ModelSettings,
    TargetSettings,
    LoopSettings,
    frozen=True,
    extra="forbid",
    title="Training",
):
    """The settings of every job that trains."""

    unrecorded = frozenset({"prefix_memory", "prefix_disk"})

    prefix_memory: int = Field(
        0,
        ge=0,
        description="megabytes of memory (of the GPU if one trains), in each worker, for cached "
        "activations of frozen layers, which epochs and trials then share; 0: compute them in "
        "every step",
    )
    prefix_disk: int = Field(
        20_000,
        gt=0,
        description="megabytes on disk for cached activations, in the --cache folder; if those of "
        "an epoch take more, they are computed in every step; with a GPU nothing is cached on disk",
    )


class GroupingSettings(Settings, title="Method"):
    """The groups that a mitigation method works with."""

    method_attribute: str | None = Field(
        None,
        description="attribute whose groups the method works with [default: the first --attribute]",
    )

    @property
    def fixed_method(self) -> str:
        """The method that models are trained with unless a search chooses it."""
        return "erm"

    @property
    def is_fixed(self) -> bool:
        """Whether every model is trained with `fixed_method`."""
        return True


class MethodSettings(GroupingSettings, title="Method"):
    """The mitigation method that a model is trained with."""

    method: str = Field(
        "erm",
        description="mitigation method of training (`evenhand methods` lists them); "
        "NAME:SETTING=VALUE,… changes its settings, as in group-dro:rate=0.1",
    )

    @property
    def fixed_method(self) -> str:
        """The method that models are trained with."""
        return self.method


class LabelSettings(Settings, title="Training"):
    """The share of the training patients that have labels."""

    label_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="train on a share of the training patients only; smaller shares of one seed "
        "are parts of larger ones",
    )


class FinetuneSettings(
    TrainingSettings, LabelSettings, MethodSettings, ProbeSettings, FitSettings, title="Strategy"
):
    """The settings of `evenhand finetune`: one fit with one strategy."""

    strategy: str = Field(
        "full",
        description=f"{', '.join(STRATEGIES.usages())}; a mask family (mlp, norm-attn-mlp, stages "
        "…), or units joined by commas",
    )
