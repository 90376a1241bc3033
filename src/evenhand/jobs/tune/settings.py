"""The settings of `evenhand tune`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from evenhand.experiments.settings import TARGETS, GroupingSettings, LabelSettings, TrainingSettings
from evenhand.workers import WorkerSettings


class TuneSettings(
    TrainingSettings, LabelSettings, GroupingSettings, WorkerSettings, title="Search"
):
    """The search over masks, methods and learning rates, and the baselines."""

    search: Literal["masks", "methods", "both"] = Field(
        "masks",
        description="what is searched besides the learning rate: masks (the tuned parts), methods "
        "(the mitigation method and its settings, with the tuned parts of --strategy), or both",
    )
    method: tuple[str, ...] = Field(
        (),
        description="mitigation method of training (`evenhand methods` lists them), as "
        "NAME or NAME:SETTING=VALUE,…; a SETTING that is given here is not searched; repeatable "
        "with --search methods or both [default: erm for masks, else every method that the data "
        "allow]",
    )
    strategy: str = Field(
        "full",
        description="with --search methods, the strategy of all fits, as in `evenhand finetune "
        "--strategy`",
    )
    target: tuple[str, ...] = Field(
        ("auc_worst",),
        min_length=1,
        description=f"what the search optimises on validation: {TARGETS}; repeatable: with several "
        "targets the Pareto front is kept, and no trial is stopped early",
    )
    pick: str | None = Field(
        None,
        description="rule that picks a trial from the Pareto front of several targets: ideal "
        "(nearest to the best value of each target), minimax, or budget=POINTS: the fairest within "
        "so many points (1 is .01) of the best overall performance [default: ideal]",
    )
    prefix_memory: int = Field(
        2000,
        ge=0,
        description="megabytes of memory in each worker (GPU memory if it trains on a GPU) for "
        "activations of frozen layers, which epochs and trials share; 0: compute them in every "
        "step",
    )
    family: str = Field(
        "auto",
        description="search space of masks: auto (norm-attn-mlp for a ViT, conv for conv1d, else "
        "conv-norm), another family (`evenhand units BACKBONE` lists them), or units joined by "
        "commas, each of which is tuned or not",
    )
    space: Literal["flat", "staged"] = Field(
        "flat",
        description="flat: each part is drawn independently; staged: first the layer where tuning "
        "begins, then each part of this layer and of later ones",
    )
    trials: int = Field(30, gt=0, description="trials of each search")
    stopping: Literal["halving", "none"] = Field(
        "halving",
        description="halving: after a quarter of the epochs (at least one after the warm-up), and "
        "each time the number of epochs has doubled, only the better half of the trials continues; "
        "none: every trial is trained to its end",
    )
    confirm: int = Field(
        3, ge=0, description="best trials of each search that are trained again; 0: none"
    )
    confirm_seeds: int = Field(
        3,
        gt=0,
        description="seeds of each trial that is trained again; the trial with the best mean is "
        "chosen, and its fit with the median value is delivered",
    )
    baseline: tuple[str, ...] = Field(
        ("full", "head"),
        description="strategy to compare with, as in `evenhand finetune --strategy`; its learning "
        "rate is searched with as many trials, and FairTune may choose it if it is one mask; "
        "repeatable",
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
        """The method of every model if only masks are searched, else that of the strategies."""
        return self.method[0] if self.is_fixed and self.method else "erm"

    @property
    def is_fixed(self) -> bool:
        """Whether all models are trained with one method."""
        return self.search == "masks"

    @field_validator("method", mode="before")
    @classmethod
    def _take_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_serializer("method")
    def _kept_method(self, method: tuple[str, ...]) -> str | tuple[str, ...]:
        """Record a single method as text, as jobs with one method do."""
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
                f"--strategy {self.strategy}: --search {self.search} chooses the tuned parts. "
                "Give --search methods, or --baseline to compare with the strategy"
            )
        if self.search == "methods" and (self.family, self.space) != ("auto", "flat"):
            raise ValueError(
                "--family and --space set the masks of a search, and --search methods searches no "
                "masks. Leave them out, or give --search both"
            )
        names = [text.partition(":")[0] for text in self.method]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"--method {repeated} is given twice; give each method once")
        return self
