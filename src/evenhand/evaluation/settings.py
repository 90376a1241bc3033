"""What `evenhand audit`, `evenhand compare` and `evenhand predict` are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from evenhand.cohort.settings import DataSettings
from evenhand.plugins import ImportSettings
from evenhand.settings import SEEDS, Settings
from evenhand.tables.settings import ClassSettings

Asks = TypeVar("Asks", bound=Settings)

LEAST = 19
"""The fewest permutations, or resamples, whose smallest p-value is .05."""


class PairSettings(Settings, title="Predictions"):
    """Which samples are twins."""

    pair_column: str | None = Field(
        None,
        description="column in which twins, such as a picture with and without a sticker, share a "
        "value: measures how far their scores lie apart [default: pair_id, if it is there]",
    )


class ReadSettings(ClassSettings, PairSettings, ImportSettings, title="Predictions"):
    """How predictions are read."""

    attribute: tuple[str, ...] = Field(
        (),
        description="protected attribute, or an intersection such as 'sex*age'; repeatable "
        "[default: all columns that are called attr_NAME; of other files, name them]",
    )
    bins: tuple[str, ...] = Field(
        (),
        description="bins of a numeric attribute: age=60 (60 is in the upper one), 'age<=60' (in "
        "the lower one) or age=20,40,60,80; repeatable",
    )
    map: tuple[str, ...] = Field(
        (),
        description="what a column is called in files made elsewhere: label=y_true; repeatable",
    )
    logits: bool = Field(False, description="the scores of files made elsewhere are logits")
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of everything that is drawn")


class InputSettings(ReadSettings, title="Predictions"):
    """Which predictions are read, and how."""

    inputs: tuple[Path, ...] = Field(
        description="predictions (CSV or parquet) or run directories; compare subtracts the later "
        "from the earlier, so name the new model first"
    )


class ChoiceSettings(Settings, title="Measurement"):
    """What the groups are compared by: metrics, a decision to be made, a reference, a threshold."""

    metric: tuple[str, ...] = Field(
        (),
        description="metric of each group, or all (--list-metrics names them); repeatable "
        "[default: the usual ones]",
    )
    decision: Literal["assistive", "punitive"] | None = Field(
        None, description="what being flagged brings, help or a burden: picks the error rate"
    )
    share: Literal["small", "large"] | None = Field(
        None, description="with --decision: the share of the patients that can be flagged"
    )
    numbers: Literal["equal", "proportional"] | None = Field(
        None, description="who should be flagged, whatever the errors: picks the metric"
    )
    reference: tuple[str, ...] = Field(
        (),
        description="group that differences are from: sex=male; repeatable [default: the largest]",
    )
    threshold: str | None = Field(
        None,
        description="0.3, youden, f1, sensitivity=0.9 or specificity=0.9, chosen on validation "
        "rows [default: youden, or 0.5 where these hold fewer than 10 positives or negatives]",
    )

    @model_validator(mode="after")
    def _check_decision(self) -> Self:
        if (self.decision is None) != (self.share is None):
            raise ValueError(
                "--decision and --share go together: name both, as in --decision assistive "
                "--share large"
            )
        return self


class GroupSettings(Settings, title="Measurement"):
    """Which groups are compared, beside those of single attributes."""

    exclude_group: tuple[str, ...] = Field(
        (), description='group that comparisons leave out: "age=under 20"; repeatable'
    )
    intersections: int = Field(
        1,
        ge=1,
        le=3,
        description="look at all intersections of so many attributes at most, too, corrected "
        "together: 2 adds sex*age, 3 adds sex*age*site",
    )


class MeasureSettings(ChoiceSettings, GroupSettings, title="Measurement"):
    """What is measured. A job that trains asks for the default."""

    across: tuple[str, ...] = Field(
        (),
        description="comparison across the groups, or all (--list-metrics); repeatable "
        "[default: the usual ones]",
    )
    minimum: int = Field(0, ge=0, description="samples that a group needs for any claim about it")
    condition: str | None = Field(
        None, description="a third variable: compare the groups within each of its levels, too"
    )
    threshold_by: str | None = Field(
        None, description="attribute whose groups get a threshold each"
    )
    split: Literal["train", "val", "test"] = Field("test", description="whose rows are reported")
    interval: Literal["auto", "percentile", "bca"] = Field(
        "auto",
        description="how intervals are computed from the resamples; auto also covers well with few "
        "patients",
    )
    level: float = Field(0.95, gt=0, lt=1, description="confidence level of the intervals")
    replicates: int = Field(1000, ge=1, le=1_000_000, description="resamples of the patients")
    permutations: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="permutations for each test of no difference; 0: no tests",
    )

    @field_validator("permutations")
    @classmethod
    def _check_permutations(cls, permutations: int) -> int:
        if 0 < permutations < LEAST:
            raise ValueError(
                f"the smallest p of {permutations} permutations is "
                f"{1 / (permutations + 1):.2g}, which is no evidence; give {LEAST} at least, "
                "better 999, or 0"
            )
        return permutations

    @field_validator("replicates")
    @classmethod
    def _check_replicates(cls, replicates: int) -> int:
        if replicates < LEAST:
            raise ValueError(
                f"the smallest p of {replicates} resamples is {1 / (replicates + 1):.2g}, so that "
                f"no difference could be shown; give {LEAST} at least, better 1000"
            )
        return replicates


def _refuse_own_condition(settings: Asks) -> Asks:
    """Refuse a ``--condition`` that is one of the attributes, or a part of one."""
    control = getattr(settings, "condition", None)
    for attribute in getattr(settings, "attribute", ()):
        if control is not None and control in re.split(r"[*|]", attribute):
            raise ValueError(
                f"--condition {control} is a part of --attribute {attribute}: within a level of "
                f"{control} all samples are of one group of {control}. Name another variable"
            )
    return settings


class ProbeSettings(Settings, title="Measurement"):
    """Whether the layers of the models are probed for the attributes."""

    probe: bool = Field(
        False,
        description="measure how well a new probe finds each attribute in each layer, given the "
        "label, on the reported patients",
    )


class AuditSettings(MeasureSettings, InputSettings, title="Measurement"):
    """Which predictions are audited, and by what."""

    _conditions = model_validator(mode="after")(_refuse_own_condition)


class CompareSettings(MeasureSettings, ProbeSettings, InputSettings, title="Predictions"):
    """Which models are compared on the same samples, and by what."""

    _conditions = model_validator(mode="after")(_refuse_own_condition)

    model: tuple[str, ...] = Field(
        (),
        description="models of the runs, or all; repeatable [default: those that the runs chose]",
    )


class PredictSettings(DataSettings, PairSettings, GroupSettings, title="Model"):
    """Which model is applied to which data.

    Attributes are as in the model's run unless they are given; so are label, columns and bins where
    the data have the same reader. A table without labels is scored and not measured.
    """

    run: Path = Field(description="the run that holds the model")
    model: str | None = Field(None, description="which of its models [default: the one it chose]")
    map: tuple[str, ...] = Field(
        (),
        description="what a column of the run's table, or an attribute, is called in this table: "
        "sex=gender; repeatable",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the model runs")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 is faster on GPUs (autocast)"
    )
