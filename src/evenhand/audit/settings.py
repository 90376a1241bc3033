"""What `evenhand audit` and `evenhand predict` are told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from evenhand.cohort.settings import DataSettings


class AuditSettings(BaseModel, frozen=True, extra="forbid"):
    """Which predictions are audited, and by what."""

    inputs: tuple[Path, ...] = Field(description="predictions (CSV or parquet) or run directories")
    attribute: tuple[str, ...] = Field(
        (), description="protected attribute, or an intersection such as sex*age; repeatable"
    )
    bins: tuple[str, ...] = Field(
        (), description="bins of a numeric attribute: age=60 or age=20,40,60,80; repeatable"
    )
    map: tuple[str, ...] = Field(
        (), description="what a column is called in the file: label=y_true; repeatable"
    )
    logits: bool = Field(False, description="the scores are logits")
    exclude_group: tuple[str, ...] = Field(
        (), description='group that gaps leave out: "age=under 20"; repeatable'
    )
    seed: int = Field(0, ge=0, description="draws the resamples")


class PredictSettings(DataSettings, frozen=True, extra="forbid"):
    """Which model is applied to which data; what is not given is taken from the model's run."""

    run: Path = Field(description="the run that holds the model")
    model: str | None = Field(None, description="which of its models (default: the one it chose)")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the model runs")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 uses autocast")
