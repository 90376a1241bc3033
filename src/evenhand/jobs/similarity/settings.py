"""The settings of `evenhand similarity`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from evenhand.plugins import ImportSettings
from evenhand.settings import SEEDS


class SimilaritySettings(ImportSettings, title="Comparison"):
    """The models to compare, the patients, and the measure of similarity."""

    unrecorded = frozenset({"cache"})

    runs: tuple[Path, Path] = Field(description="two runs of the same cohort, or one run twice")
    model: tuple[str, ...] = Field(
        (), description="a model of each run, in their order [default: the models they chose]"
    )
    attribute: tuple[str, ...] = Field(
        (), description="protected attribute; repeatable [default: those of the first run]"
    )
    layer: tuple[str, ...] = Field(
        (), description="layer to compare; repeatable [default: all layers]"
    )
    kernel: Literal["linear", "rbf"] = Field("linear", description="kernel of CKA")
    bandwidth: float = Field(
        1.0, gt=0, description="bandwidth of the RBF kernel, as a share of the median distance"
    )
    pool: Literal["auto", "mean", "flat"] = Field(
        "auto",
        description="mean: average over positions; flat: all numbers (auto: flat for series)",
    )
    split: Literal["train", "val", "test"] = Field(
        "val", description="split of the patients; make no choices on test"
    )
    patients: int = Field(2000, ge=20, description="patients, at most, drawn at random")
    minimum: int = Field(
        30, ge=8, description="patients of a group, at least; a smaller group gets no claim"
    )
    batch: int = Field(
        512, ge=8, description="patients in a batch of CKA, at most, the same for all groups"
    )
    permutations: int = Field(999, ge=19, description="permutations of the test of each group")
    level: float = Field(0.95, gt=0, lt=1, description="confidence level of intervals")
    data: str | None = Field(
        None,
        description="the place of the first run's data [default: the place that the run recorded]",
    )
    cache: Path | None = Field(
        None, description="folder of decoded samples [default: $EVENHAND_CACHE or the user's cache]"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the models run")
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of all random numbers")
