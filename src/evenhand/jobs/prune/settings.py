"""The settings of `evenhand prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from evenhand.plugins import ImportSettings
from evenhand.pruning.registry import ESTIMATORS
from evenhand.settings import SEEDS, current_settings
from evenhand.tables.settings import ValueSettings
from evenhand.training.settings import TrackSettings


class PruneSettings(ValueSettings, ImportSettings, TrackSettings, title="Pruning"):
    """The model, the attribute, the target, and the limits and the pace of the pruning."""

    unrecorded = frozenset({"cache"})

    run: Path = Field(description="the finished run that holds the model; it is not changed")
    model: str | None = Field(None, description="which of its models [default: the one it chose]")
    data: str | None = Field(
        None, description="the place of the run's data [default: the place that the run recorded]"
    )
    attribute: tuple[str, ...] = Field(
        description="attribute or intersection (sex*age) that the model is pruned for; further "
        "ones are only reported; repeatable",
        min_length=1,
    )
    bins: tuple[str, ...] = Field(
        (), description="bins of a numeric attribute, as in age=60; repeatable [default: the run's]"
    )
    exclude_group: tuple[str, ...] = Field(
        (), description='group that takes no part: "age=under 20"; repeatable'
    )
    rank_by: str = Field(
        "auc",
        description="metric by which the unprivileged group is the worst on validation, of "
        "`evenhand audit --list-metrics`",
    )
    unprivileged: str | None = Field(
        None,
        description="the unprivileged level of the first --attribute, as in female [default: the "
        "worst by --rank-by]",
    )
    privileged: tuple[str, ...] = Field(
        (), description="a privileged level; repeatable [default: all others, weighted by size]"
    )
    beta: float = Field(0.33, ge=0, description="weight of the privileged groups; 0 ignores them")
    group_beta: tuple[str, ...] = Field(
        (), description="beta of a single privileged level, as in male=0.5; repeatable"
    )
    estimator: str = Field(
        "ggn-mc",
        description=f"estimator of the second derivatives: {', '.join(ESTIMATORS.titles())}",
    )
    draws: int = Field(1, gt=0, description="draws per sample, of ggn-mc and hutchinson")
    prunable: tuple[str, ...] = Field(
        ("conv", "linear"),
        description="weights that may be pruned: conv, linear, head, bias, norm, other; repeatable",
    )
    structure: Literal["weight", "channel"] = Field(
        "weight", description="channel removes whole channels or heads; the model gets smaller"
    )
    share: float = Field(
        10, gt=0, le=100, description="percent of the remaining weights that a step prunes"
    )
    limit: float = Field(60, gt=0, lt=100, description="highest sparsity in percent")
    target: str = Field(
        "auc_gap",
        description="number that chooses the best step on validation; with a bound (auc_gap=0.02) "
        "pruning stops when it is met: a metric, a metric with _worst, _best, _gap or _min_ratio "
        "(auc_worst), or a fairness metric (eopp1_sum), of `evenhand audit --list-metrics`",
    )
    budget: float | None = Field(
        1.0,
        ge=0,
        description="points (0.01) of the budget metric over all patients that may be lost on "
        "validation",
    )
    budget_metric: str = Field(
        "auc", description="metric of the budget (`evenhand audit --list-metrics`)"
    )
    batches: int = Field(20, gt=0, description="batches of each group per step")
    batch_size: int = Field(16, gt=0, description="samples of each group in a batch")
    finetune_epochs: int = Field(
        0, ge=0, description="epochs of fine-tuning after the pruning; pruned weights stay zero"
    )
    lr: float = Field(1e-4, gt=0, description="learning rate of the fine-tuning")
    search: int = Field(
        0, ge=0, description="trials that choose beta, share and estimator on validation; 0: none"
    )
    skip_unreadable: bool = Field(
        False, description="leave out samples whose file cannot be read, and record them"
    )
    cache: Path | None = Field(
        None, description="folder of decoded samples [default: $EVENHAND_CACHE or the user's cache]"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the model runs")
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of all random numbers")

    @model_validator(mode="before")
    @classmethod
    def _take_earlier_names(cls, values: Any) -> Any:
        return current_settings(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> PruneSettings:
        if self.structure == "channel" and "prunable" in self.model_fields_set:
            raise ValueError(
                "--prunable is for weights that are pruned one by one; --structure channel removes "
                "channels with everything that depends on them. Leave one of the two out"
            )
        return self
