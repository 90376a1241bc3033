"""Settings of the data of a job."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import Field, field_validator

from evenhand.plugins import ImportSettings
from evenhand.settings import SEEDS
from evenhand.tables.settings import ClassSettings

MAX_PIXELS = 80_000_000  # limit for one image, and for the sum of images that are decoded at once


class DataSettings(ClassSettings, ImportSettings, title="Data"):
    """Settings of the data, the label, the attributes and the patients."""

    unrecorded = frozenset({"cache"})  # not recorded with a run; see `Settings.unrecorded`

    data: str = Field(
        description="READER:PATH (`evenhand datasets` lists readers), or a table of your own: "
        ".csv, .parquet or .xlsx"
    )
    attribute: tuple[str, ...] = Field(
        (), description="protected attribute, or an intersection such as 'sex*age'; repeatable"
    )
    label: str | None = Field(
        None, description="the table's label column, or the reader's label by name"
    )
    patient: str | None = Field(None, description="the table's patient column")
    image_column: str | None = Field(
        None, description="the table's column of image paths, relative to the table's folder"
    )
    series_column: str | None = Field(
        None,
        description="the table's column of series: their names in --series-table or, without it, "
        "paths to a CSV per series, with a row per time step and a column per channel",
    )
    series_table: str | None = Field(
        None,
        description="one long table of all series, relative to the table's folder: a row per "
        "measurement, with its series, time, variable and value",
    )
    series_step: float | None = Field(
        None,
        gt=0,
        description="length of a step of the long table, in its unit of time [default: 1]",
    )
    series_steps: int | None = Field(
        None,
        gt=0,
        description="steps of each series of the long table [default: up to the last time]",
    )
    series_variable: tuple[str, ...] = Field(
        (), description="variable of the long table [default: all]; repeatable"
    )
    static: tuple[str, ...] = Field(
        (),
        description="variable that is constant over time, which encoders of series read in the "
        "first step: a numeric column of the table of samples, or one of the reader's names "
        "(physionet2012: age, sex, height, icu); repeatable",
    )
    bins: tuple[str, ...] = Field(
        (),
        description="bins of a numeric attribute: age=60 (60 is in the upper one), 'age<=60' (in "
        "the lower one) or age=20,40,60,80; repeatable",
    )
    slices: int | None = Field(
        None,
        ge=1,
        description="number of slices of each volume, evenly spaced over its middle half",
    )
    window: tuple[float, float] | None = Field(
        None,
        description="centre and width of the intensity window of DICOM, NIfTI and array files, "
        "as in -600 1500 [default: that of each file]",
    )
    value_range: tuple[float, float] | None = Field(
        None,
        description="values of black and of white in array files; values outside are refused "
        " [default: 0 1 for floats]",
    )
    bit_depth: int | None = Field(
        None,
        ge=9,
        le=16,
        description="bits that 16-bit images use, if the files do not declare it: with 12, 0 is "
        "black and 4095 white",
    )
    page: int | None = Field(
        None,
        ge=1,
        description="page (DICOM: frame) to read from image files with several, counted from 1",
    )
    max_pixels: int = Field(
        MAX_PIXELS,
        ge=1,
        description="largest number of pixels of one image, and in total of images decoded at once",
    )
    patient_share: float = Field(
        1.0, gt=0, le=1, description="work on a random share of the patients only"
    )
    exclude_patients: tuple[Path, ...] = Field(
        (),
        description="leave out the patients of a run, of a table with a patient_id column, or of a "
        "text file with an id in each line; repeatable",
    )
    skip_unreadable: bool = Field(
        False, description="leave out samples whose file cannot be read, and record them"
    )
    cache: Path | None = Field(
        None, description="folder of decoded samples [default: $EVENHAND_CACHE or the user's cache]"
    )
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of all random numbers")

    @field_validator("window")
    @classmethod
    def _check_window(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and window[1] <= 0:
            raise ValueError("give a centre and a width above 0, as in -600 1500")
        return window

    @field_validator("value_range")
    @classmethod
    def _check_range(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and limits[0] >= limits[1]:
            raise ValueError("give the value of black and, above it, that of white, as in 0 4095")
        return limits


class SplitSettings(DataSettings, title="Data"):
    """Settings of the data, and the shares of patients in train, val and test."""

    split: tuple[float, float, float] = Field(
        (0.6, 0.2, 0.2), description="shares of the patients for train, val and test"
    )

    @field_validator("split")
    @classmethod
    def _check_split(cls, split: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(split) <= 0 or not math.isclose(sum(split), 1):
            raise ValueError(f"{split}: give three shares above 0 that sum to 1, as in 0.6 0.2 0.2")
        return split
