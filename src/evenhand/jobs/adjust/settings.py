"""The settings of `evenhand adjust`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from evenhand.evaluation.settings import MeasureSettings, ReadSettings
from evenhand.methods.registry import post_hoc_from_text


class AdjustSettings(MeasureSettings, ReadSettings, title="Adjustment"):
    """The model to adjust, the methods, and the metrics that compare the results."""

    unrecorded = frozenset({"cache", "skip_unreadable"})

    input: Path = Field(description="a finished run, or a predictions file (CSV or parquet)")
    method: tuple[str, ...] = Field(
        description="thresholds, recalibrate, multicalibrate or dfr (`evenhand methods` lists "
        "them); NAME:SETTING=VALUE,… changes settings, as in "
        "thresholds:aim=minimum-sensitivity,value=0.9; repeatable",
        min_length=1,
    )
    method_attribute: str | None = Field(
        None,
        description="attribute whose groups the methods work with [default: the first --attribute]",
    )
    model: str | None = Field(
        None, description="which of the run's models [default: the one it chose]"
    )
    data: str | None = Field(
        None,
        description="the place of the run's data, for methods that read features [default: the "
        "place that the run recorded]",
    )
    cache: Path | None = Field(
        None, description="folder of decoded samples [default: $EVENHAND_CACHE or the user's cache]"
    )
    skip_unreadable: bool = Field(
        False, description="leave out samples whose file cannot be read, and record them"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the model runs")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 is faster on GPUs (autocast)"
    )

    @model_validator(mode="after")
    def _check_measure(self) -> Self:
        if self.split != "test":
            raise ValueError(
                f"--split {self.split}: methods are fitted on validation rows, so numbers are "
                "reported for test rows. Leave --split out"
            )
        names = {method.partition(":")[0] for method in self.method}
        threshold = self.threshold or self.threshold_by
        if threshold and "thresholds" in names:
            raise ValueError(
                f"--method thresholds chooses the thresholds; leave --threshold {threshold} out"
            )
        return self

    @property
    def names(self) -> dict[str, str]:
        """The text of each method, by the name of its adjusted model: ``thresholds``, ``dfr-2``."""
        texts: dict[str, str] = {}
        for text in self.method:
            stem, number = post_hoc_from_text(text)[0], 1
            while (name := stem if number == 1 else f"{stem}-{number}") in texts:
                number += 1
            texts[name] = text
        return texts
