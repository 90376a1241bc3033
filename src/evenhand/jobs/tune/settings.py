"""What `evenhand tune` is told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from evenhand.experiments.settings import (
    TARGETS,
    GroupingSettings,
    LabelSettings,
    TrainingSettings,
)
from evenhand.workers import WorkerSettings


class TuneSettings(
    TrainingSettings, LabelSettings, GroupingSettings, WorkerSettings, title="Search"
):
    """A search over masks, methods and learning rates, and what it is compared with."""

    search: Literal["masks", "methods", "both"] = Field(
        "masks",
        description="what is chosen beside the learning rate: masks (what may change), methods "
        "(the mitigation method and its settings; --strategy says what may change), or both",
    )
    method: tuple[str, ...] = Field(
        (),
        description="mitigation method of training (`evenhand methods` lists them), as "
        "NAME or NAME:SETTING=VALUE,…; repeatable: with --search methods or both, those that are "
        "searched, of which no SETTING that is given is [default: erm for masks, else every method "
        "that the data allow]",
    )
    strategy: str = Field(
        "full",
        description="with --search methods, what may change, as `evenhand finetune --strategy` "
        "takes it",
    )
    target: tuple[str, ...] = Field(
        ("auc_worst",),
        min_length=1,
        description=f"what the search optimises on validation: {TARGETS}; repeatable: several keep "
        "their Pareto front, and no trial is stopped early",
    )
    pick: str | None = Field(
        None,
        description="rule that picks from the Pareto front of several targets: ideal (nearest "
        "to the best of each), minimax, or budget=POINTS: the fairest within so many points (1 is "
        ".01) of the best overall performance [default: ideal]",
    )
    prefix_memory: int = Field(
        2000,
        ge=0,
        description="megabytes of memory (the GPU's where one trains), in each worker, for kept "
        "activations of frozen layers, which epochs and trials share; 0: compute them in every "
        "step",
    )
    family: str = Field(
        "auto",
        description="search space of masks: auto (norm-attn-mlp for a ViT, conv for conv1d, else "
        "conv-norm), another family (`evenhand units BACKBONE` lists them), or units joined by "
        "commas, each switched by itself",
    )
    space: Literal["flat", "staged"] = Field(
        "flat",
        description="flat: every part is drawn by itself; staged: first the layer where tuning "
        "begins, then each part from there on",
    )
    trials: int = Field(30, gt=0, description="trials of each search")
    stopping: Literal["halving", "none"] = Field(
        "halving",
        description="halving: after a quarter of the epochs (at least one after the warm-up), and "
        "each time the number of epochs has doubled, only the better half of the trials continues; "
        "none: every trial is trained to its end",
    )
    confirm: int = Field(
        3, ge=0, description="best masks of each search that are trained again; 0: none"
    )
    confirm_seeds: int = Field(
        3,
        gt=0,
        description="seeds that each of them is trained with; the best mean is chosen, and the fit "
        "whose value is the median is delivered",
    )
    baseline: tuple[str, ...] = Field(
        ("full", "head"),
        description="strategy to compare with, as `evenhand finetune --strategy` takes it; its "
        "learning rate is searched with as many trials, and FairTune may choose it where it is one "
        "mask; repeatable",
    )
    lr_min: float = Field(1e-5, gt=0, description="lowest learning rate searched")
    lr_max: float = Field(1e-3, gt=0, description="highest learning rate searched")
    storage: str | None = Field(
        None,
        exclude=True,  # it may hold a password, and the study may move
        repr=False,
        description="Optuna storage URL [default: study.db in the run directory]",
    )

    @property
    def fixed_method(self) -> str:
        """The method of every model where masks are searched, else that of the strategies."""
        return self.method[0] if self.is_fixed and self.method else "erm"

    @property
    def is_fixed(self) -> bool:
        """Whether every model is trained with that method."""
        return self.search == "masks"

    @field_validator("method", mode="before")
    @classmethod
    def _take_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_serializer("method")
    def _kept_method(self, method: tuple[str, ...]) -> str | tuple[str, ...]:
        """Keep one method as its name, as runs do in which there can be one only."""
        return method[0] if len(method) == 1 else method

    @model_validator(mode="after")
    def _check(self) -> TuneSettings:
        if self.lr_min > self.lr_max:
            raise ValueError(f"--lr-min {self.lr_min:g} is above --lr-max {self.lr_max:g}")
        if self.is_fixed and len(self.method) > 1:
            raise ValueError(
                f"--search masks trains by one method, and --method names {len(self.method)}. "
                "Name one, or give --search methods or both"
            )
        if self.search != "methods" and self.strategy != "full":
            raise ValueError(
                f"--strategy {self.strategy}: --search {self.search} chooses what may change. "
                "Give --search methods, or --baseline to compare with the strategy"
            )
        if self.search == "methods" and (self.family, self.space) != ("auto", "flat"):
            raise ValueError(
                "--family and --space are of masks, and --search methods has none. Leave them "
                "out, or give --search both"
            )
        names = [text.partition(":")[0] for text in self.method]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"--method {twice} is given twice; give each method once")
        return self
