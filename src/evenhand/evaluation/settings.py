"""Settings of `evenhand audit`, `evenhand compare` and `evenhand predict`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from evenhand.cohort.settings import DataSettings
from evenhand.plugins import ImportSettings
from evenhand.settings import SEEDS, Settings
from evenhand.tables.settings import ClassSettings

SettingsT = TypeVar("SettingsT", bound=Settings)

LEAST = 19
"""The smallest number of permutations or resamples that can give a p-value of .05."""


class PairSettings(Settings, title="Predictions"):
    """The setting that names twins: pairs of samples that differ in one detail."""

    pair_column: str | None = Field(
        None,
        description="column in which the two twins of a pair, such as a picture with and without a "
        "sticker, share a value; measures the distance of their scores [default: pair_id, if the "
        "file has it]",
    )


class ReadSettings(ClassSettings, PairSettings, ImportSettings, title="Predictions"):
    """Settings for reading predictions."""

    attribute: tuple[str, ...] = Field(
        (),
        description="protected attribute, or an intersection such as 'sex*age'; repeatable "
        "[default: all columns that are called attr_NAME; other files need it]",
    )
    bins: tuple[str, ...] = Field(
        (),
        description="bins of a numeric attribute: age=60 (60 is in the upper one), 'age<=60' (in "
        "the lower one) or age=20,40,60,80; repeatable",
    )
    map: tuple[str, ...] = Field(
        (),
        description="name of a column in files of other programs: label=y_true; repeatable",
    )
    logits: bool = Field(False, description="the scores in files of other programs are logits")
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of all random numbers")


class InputSettings(ReadSettings, title="Predictions"):
    """Settings that name the predictions, and how to read them."""

    inputs: tuple[Path, ...] = Field(
        description="predictions (CSV or parquet) or run directories. `compare` shows the "
        "first minus each other one, so name the new model first"
    )


class ChoiceSettings(Settings, title="Measurement"):
    """The metrics, decision, reference groups and threshold of a comparison of groups."""

    metric: tuple[str, ...] = Field(
        (),
        description="metric of each group, or all (--list-metrics names them); repeatable "
        "[default: the usual ones]",
    )
    decision: Literal["assistive", "punitive"] | None = Field(
        None,
        description="whether a flagged patient gets help (assistive) or bears a burden (punitive): "
        "picks the error rate",
    )
    share: Literal["small", "large"] | None = Field(
        None, description="with --decision: the share of the patients that can be flagged"
    )
    numbers: Literal["equal", "proportional"] | None = Field(
        None,
        description="the share of each group to be flagged, regardless of errors: equal for all "
        "groups, or proportional to their cases; picks the metric",
    )
    reference: tuple[str, ...] = Field(
        (),
        description="reference group of differences: sex=male; repeatable [default: the largest]",
    )
    threshold: str | None = Field(
        None,
        description="0.3, youden, f1, sensitivity=0.9 or specificity=0.9, chosen on validation "
        "rows [default: youden, or 0.5 if these hold fewer than 10 positives or negatives]",
    )

    @model_validator(mode="after")
    def _check_decision(self) -> Self:
        if (self.decision is None) != (self.share is None):
            raise ValueError(
                "--decision and --share go together: give both, as in --decision assistive "
                "--share large"
            )
        return self


class GroupSettings(Settings, title="Measurement"):
    """Groups that comparisons leave out, and intersections that they add."""

    exclude_group: tuple[str, ...] = Field(
        (), description='group that comparisons leave out: "age=under 20"; repeatable'
    )
    intersections: int = Field(
        1,
        ge=1,
        le=3,
        description="add all intersections of up to this many attributes, corrected together: 2 "
        "adds sex*age, 3 adds sex*age*site",
    )


class MeasureSettings(ChoiceSettings, GroupSettings, title="Measurement"):
    """All settings of the measurement; jobs that train use the defaults."""

    across: tuple[str, ...] = Field(
        (),
        description="comparison across the groups, or all (--list-metrics); repeatable "
        "[default: the usual ones]",
    )
    minimum: int = Field(
        0, ge=0, description="number of samples below which a group is not compared"
    )
    condition: str | None = Field(
        None, description="a third variable: compare the groups also within each of its levels"
    )
    threshold_by: str | None = Field(
        None, description="attribute whose groups have a threshold each"
    )
    split: Literal["train", "val", "test"] = Field("test", description="split to report")
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
        description="permutations for each test of no difference; 0: tests from the resamples "
        "(max-t) only",
    )

    @field_validator("permutations")
    @classmethod
    def _check_permutations(cls, permutations: int) -> int:
        if 0 < permutations < LEAST:
            raise ValueError(
                f"the smallest p of {permutations} permutations is "
                f"{1 / (permutations + 1):.2g}, which is no evidence; give {LEAST} or more "
                "(better 999), or 0 for no tests"
            )
        return permutations

    @field_validator("replicates")
    @classmethod
    def _check_replicates(cls, replicates: int) -> int:
        if replicates < LEAST:
            raise ValueError(
                f"the smallest p of {replicates} resamples is {1 / (replicates + 1):.2g}, so "
                f"no difference can be shown; give {LEAST} or more (better 1000)"
            )
        return replicates


def _refuse_condition_in_attribute(settings: SettingsT) -> SettingsT:
    """Refuse a ``--condition`` that is one of the attributes, or a part of one."""
    control = getattr(settings, "condition", None)
    for attribute in getattr(settings, "attribute", ()):
        if control is not None and control in re.split(r"[*|]", attribute):
            raise ValueError(
                f"--condition {control} is a part of --attribute {attribute}: within a level of "
                f"{control}, all samples have the same {control}. Name another variable"
            )
    return settings


class ProbeSettings(Settings, title="Measurement"):
    """The setting for probes of the models' layers."""

    probe: bool = Field(
        False,
        description="measure how well a probe of each layer predicts each attribute, given the "
        "label, on the reported patients",
    )


class AuditSettings(MeasureSettings, InputSettings, title="Measurement"):
    """The settings of `evenhand audit`."""

    _conditions = model_validator(mode="after")(_refuse_condition_in_attribute)


class CompareSettings(MeasureSettings, ProbeSettings, InputSettings, title="Predictions"):
    """The settings of `evenhand compare`."""

    _conditions = model_validator(mode="after")(_refuse_condition_in_attribute)

    model: tuple[str, ...] = Field(
        (),
        description="models of the runs, or all; repeatable [default: those that the runs chose]",
    )


class PredictSettings(DataSettings, PairSettings, GroupSettings, title="Model"):
    """The settings of `evenhand predict`.

    By default, the attributes are those of the model's run; label, columns and bins, too, if the
    data have the same reader. Without labels, samples are scored but nothing is measured.
    """

    run: Path = Field(description="run that holds the model")
    model: str | None = Field(
        None, description="name of a model of the run [default: the one that the run chose]"
    )
    map: tuple[str, ...] = Field(
        (),
        description="name in this table of an attribute, or of a column of the run's table: "
        "sex=gender; repeatable",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device of the model")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 is faster on GPUs (autocast)"
    )
