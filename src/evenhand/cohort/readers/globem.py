"""GLOBEM (Xu et al. 2022, NeurIPS Datasets): four years of phones and wearables of students."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Values
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.cohort.series.recordings import Recordings, Series
from evenhand.errors import EvenhandError, first_few
from evenhand.tables.attributes import attribute_by_level
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import look_up, read_columns, read_table, stack_tables
from evenhand.tables.table_checks import refuse_rows, require_columns

DAYS = 28
DEMOGRAPHICS = "demographics.csv"
PEOPLE_COLUMNS = ("gender", "age", "race", "disability")
KINDS = ("location", "screen", "sleep", "steps")
# Features by part of the day, raw and normalised per person; "_dis" columns hold letters.
CHANNEL = re.compile(
    r"f_(loc|screen|slp|steps):(?!.*_dis:).*:(morning|afternoon|evening|night|allday)"
)

GLOBEM = DataSet(
    title="GLOBEM",
    task="depression in the weekly survey",
    modality="series: 28 days of 1,390 features of location, screen, sleep and steps",
    licence="PhysioNet Credentialed Health Data License 1.5.0 (the public sample: Apache-2.0)",
    access="https://physionet.org/content/globem, after training and a signed agreement",
    layout=(
        LayoutEntry("INS-W*/FeatureData", "rapids.csv, or location, screen, sleep and steps.csv"),
        LayoutEntry("INS-W*/SurveyData/dep_weekly.csv", "pid, date, dep"),
        LayoutEntry("INS-W*/ParticipantsInfoData/platform.csv", "pid, platform"),
        LayoutEntry(
            DEMOGRAPHICS,
            "PID, gender, age, race, disability; on request",
            required=False,
            columns=PEOPLE_COLUMNS,
        ),
    ),
    labels={
        "weekly": by_value(
            "dep", {"no depression": ("false", "0"), "depression": ("true", "1")}, ("",)
        )
    },
    attributes=(
        attribute_by_level(
            "gender",
            "gender",
            {
                "male": ("1", "male"),
                "female": ("2", "female"),
                "transgender": ("3", "transgender"),
                "genderqueer": ("4", "genderqueer"),
            },
            rest="other",
        ),
        attribute_by_bins("age", "age", (22,)),
        attribute_by_level("disability", "disability", {"yes": ("1", "yes")}, rest="no"),
    ),
    open_attributes={"race": "race", "platform": "platform"},
    caution="Misleads because the label is a short weekly survey: groups may answer it "
    "differently. Weeks of a person are similar.",
)


@published("globem", GLOBEM)
def find_globem(root: Path) -> SourceSamples:
    """Find the weekly surveys, each with the 28 days that end on its day.

    A pid that occurs in two years is one patient. Blank cells are values that were not observed.
    """
    studies = sorted(path for path in root.glob("INS-W*") if path.is_dir())
    features = {study.name: _read_features(study) for study in studies}
    channels = next(iter(features.values())).columns
    for study, table in features.items():
        differing = set(table.columns) ^ set(channels)
        if differing:
            raise EvenhandError(
                f"{root / study / 'FeatureData'} and that of {studies[0].name} do not have the "
                f"same features; only one of them has {first_few(sorted(differing))}."
            )
    table = stack_tables(
        {f"{study.name}/dep_weekly.csv": _read_surveys(study) for study in studies}
    )
    demographics = root / DEMOGRAPHICS
    tables = [path for study in studies for path in study.rglob("*.csv")]
    if demographics.is_file():
        people = read_table(demographics)
        require_columns(people, demographics, ("PID", *PEOPLE_COLUMNS))
        people = people.rename(columns={"PID": "pid"})
        table = look_up(table, "pid", people, demographics, PEOPLE_COLUMNS)
        tables.append(demographics)
    values = {name: table[channels] for name, table in features.items()}
    return SourceSamples(
        table,
        sample="survey",
        patient="pid",
        source=root,
        tables=tuple(tables),
        read=lambda rows: _windows(rows, values),
        channels=tuple(channels),
    )


def _read_surveys(study: Path) -> pd.DataFrame:
    """Return the weekly surveys of a study, with the platform of each person."""
    path = study / "SurveyData" / "dep_weekly.csv"
    table = read_table(path)
    require_columns(table, path, ("pid", "date", "dep"))
    day = pd.to_datetime(table["date"], format="mixed", errors="coerce").dt.normalize()
    refuse_rows(day.isna() | table["pid"].isna(), path, "'pid' is blank, or 'date' is no date.")
    platform = study / "ParticipantsInfoData" / "platform.csv"
    table = look_up(table, "pid", read_table(platform), platform, ("platform",))
    survey = table["pid"] + "#" + study.name + "#" + day.dt.strftime("%Y-%m-%d")
    return table.assign(survey=survey, day=day, study=study.name)


def _read_features(study: Path) -> pd.DataFrame:
    """Return the features of a study by pid and day, from one table or four."""
    folder = study / "FeatureData"
    joined = folder / "rapids.csv"
    paths = [joined] if joined.is_file() else [folder / f"{kind}.csv" for kind in KINDS]
    parts = []
    for path in paths:
        types = {"pid": "str", "date": "str"}
        part = read_columns(path, types, also=CHANNEL)
        day = pd.to_datetime(part.pop("date"), format="mixed", errors="coerce").dt.normalize()
        refuse_rows(day.isna(), path, "'date' is no date.")
        part = part.set_index([part.pop("pid"), day])
        refuse_rows(
            pd.Series(part.index.duplicated(), day.index), path, "a pid has two rows for this day."
        )
        parts.append(part)
    return pd.concat(parts, axis=1)


def _windows(rows: pd.DataFrame, values: dict[str, pd.DataFrame]) -> Series:
    """Return windows of 28 days in recordings of whole years, one per person and study."""
    recordings: dict[str, Values] = {}
    offset = pd.Series(0, rows.index)
    for study, table in values.items():
        people = {str(pid): days.droplevel(0) for pid, days in table.groupby(level=0)}
        for pid, surveys in rows[rows["study"] == study].groupby("pid", sort=False):
            features_of_person = people.get(str(pid), table.iloc[:0].droplevel(0))
            last = surveys["day"].max()
            first = surveys["day"].min() - pd.Timedelta(days=DAYS - 1)
            days = pd.date_range(
                min([first, *features_of_person.index]), max([last, *features_of_person.index])
            )
            recordings[f"{pid}#{study}"] = features_of_person.reindex(days).to_numpy(np.float32)
            offset[surveys.index] = (surveys["day"] - days[0]).dt.days - (DAYS - 1)
    windows = pd.DataFrame({"recording": rows["pid"] + "#" + rows["study"], "offset": offset})
    read = Recordings(tuple(recordings), recordings.__getitem__)
    return Series(read, windows.set_axis(rows["survey"]), DAYS)
