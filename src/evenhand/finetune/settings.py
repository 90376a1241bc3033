"""What `evenhand finetune` is told."""

from __future__ import annotations

from pydantic import Field

from evenhand.cohort.settings import DataSettings
from evenhand.models.settings import ModelSettings
from evenhand.train.settings import FitSettings, LoopSettings


class TrainingSettings(DataSettings, ModelSettings, LoopSettings, frozen=True, extra="forbid"):
    """What every job that trains is told."""

    objective: str = Field(
        "overall_auc", description="validation score: min_auc, auc_gap, overall_auc, min_acc, …"
    )
    exclude_group: tuple[str, ...] = Field(
        (), description='group that the objective and gaps leave out: "age=under 20"; repeatable'
    )


class FinetuneSettings(TrainingSettings, FitSettings, frozen=True, extra="forbid"):
    """One strategy, one fit."""

    strategy: str = Field(
        "full",
        description="full, scratch, head, last-K, attention, layernorm, bitfit, random:SEED, "
        "or units joined by commas",
    )
