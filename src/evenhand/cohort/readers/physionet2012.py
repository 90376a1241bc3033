"""PhysioNet/CinC Challenge 2012 (Silva et al. 2012): the first 48 hours of ICU stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort, Source, UnreadableError, Values, cohort_table
from evenhand.cohort.layouts import check_layout, read_status
from evenhand.cohort.registry import (
    LONG_TABLE,
    DataSet,
    LayoutEntry,
    refuse_settings,
    register_reader,
)
from evenhand.cohort.series.recordings import Series, whole_recordings
from evenhand.cohort.series.static import static_fingerprint, static_note, with_static
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError, first_few, pick
from evenhand.files import fingerprint
from evenhand.tables.attributes import attribute_by_value
from evenhand.tables.bins import attribute_by_bins, parse_bins
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import refuse_blank, refuse_repeated, refuse_rows, require_columns
from evenhand.tables.values import read_values

HOURS = 48
_NAMES = """
Albumin ALP ALT AST Bilirubin BUN Cholesterol Creatinine DiasABP FiO2 GCS Glucose HCO3 HCT HR
K Lactate Mg MAP MechVent Na NIDiasABP NIMAP NISysABP PaCO2 PaO2 pH Platelets RespRate SaO2
SysABP Temp TroponinI TroponinT Urine WBC Weight
"""
CHANNELS = tuple(_NAMES.split())
GENERAL = ("RecordID", "Age", "Gender", "Height", "ICUType")
CHANNEL_INDEX = {name: index for index, name in enumerate(CHANNELS)} | dict.fromkeys(GENERAL, -1)
HEADER = "Time,Parameter,Value"
ADMISSION = 4096  # bytes at the start of a file; they contain all lines of the time 00:00
UNMEASURED = -1.0  # the files' code for unknown values

DEATH = "In-hospital_death"
ICU = {"1": "coronary", "2": "cardiac surgery", "3": "medical", "4": "surgical"}
SEX = attribute_by_value("sex", "Gender", {"0": "female", "1": "male"})
AGE = attribute_by_bins("age", "Age", (65,))
UNIT = attribute_by_value("icu", "ICUType", ICU)
STATIC: Mapping[str, Mapping[str, tuple[str, str | None]]] = {
    "age": {"age": ("Age", None)},
    "sex": {"male": ("Gender", "1")},
    "height": {"height": ("Height", None)},
    "icu": {f"icu: {name}": ("ICUType", code) for code, name in ICU.items()},
}
"""Channels of each name of --static: the column, and the value coded as 1 (None: numeric)."""

PHYSIONET2012 = DataSet(
    title="PhysioNet/CinC Challenge 2012",
    task="death in hospital",
    modality="36 vital signs and laboratory values, and weight, by the hour for 48 hours",
    licence="ODC-By 1.0",
    access="https://physionet.org/content/challenge-2012/, free",
    layout=(
        LayoutEntry("set-*", "folders of stays, one text file each"),
        LayoutEntry("Outcomes-*.txt", "one row per stay; one for each folder"),
    ),
    unit="stay",
    attributes=(SEX, AGE, UNIT),
    caution="Misleads because patients are unknown: each stay counts as one. The type of intensive "
    "care goes with age and outcome.",
)


@register_reader("physionet2012", PHYSIONET2012)
def read_physionet2012(path: str, settings: DataSettings) -> Cohort:
    """Read the stays of all sets in the folder, with sex, age and type of ICU.

    The value of a channel in an hour is the mean of its measurements in this hour. Stays without
    any measurement are left out and recorded.
    """
    columns = ("patient", "image_column", "series_column", *LONG_TABLE)
    refuse_settings("physionet2012", settings, (*columns, "positive", "conflict", "slices"))
    pick("label of physionet2012", settings.label or "death", {"death": None})
    bins = parse_bins(settings.bins)
    for name in bins:
        pick("numeric attribute of physionet2012", name, {"age": None})
    for name in settings.static:
        pick("--static of physionet2012", name, STATIC)
    root = Path(path)
    check_layout(root, PHYSIONET2012)
    outcomes = _outcome_tables(root)
    table, left_out = _read_stays(root, outcomes)
    age = bins["age"].attribute("age", "Age") if "age" in bins else AGE
    values = read_values(settings)
    values.check_names(("sex", "age", "icu"))
    attributes = {rule.name: values.apply_to_levels(rule) for rule in (SEX, age, UNIT)}
    files = dict(zip(table["RecordID"], table["file"], strict=True))
    series: Series = whole_recordings(tuple(files), partial(_read_stay, files), HOURS)
    channels, mark = CHANNELS, fingerprint(table["stamp"], outcomes)
    if settings.static:
        static = _static(table, settings.static)
        series, channels = with_static(series, channels, static)
        mark = static_fingerprint(mark, static)
    return Cohort(
        table=cohort_table(table, "RecordID", "RecordID", table[DEATH], attributes),
        read=series,
        attributes=attributes,
        classes=("survived", "died"),
        source=Source(
            reader="physionet2012",
            path=str(root),
            unit="stay",
            fingerprint=mark,
            label="death: died in hospital",
            left_out=left_out,
            notes=static_note(settings.static, settings.attribute),
        ),
        channels=channels,
    )


def _read_stays(root: Path, outcomes: Sequence[Path]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the stays with their outcomes and values at admission, and those left out."""
    table = pd.concat([_read_outcomes(root, outcome) for outcome in outcomes], ignore_index=True)
    table = pd.concat([table, pd.DataFrame(map(_read_admission, table["file"]))], axis=1)
    empty = table["empty"].to_numpy(bool)
    left_out = tuple(f"{file} holds no measurement" for file in table["file"][empty])
    return table[~empty].reset_index(drop=True), left_out


def _static(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the values at admission: a row per stay, a column per channel."""
    channels = {key: rule for name in names for key, rule in STATIC[name].items()}
    columns = {
        key: pd.to_numeric(table[column])
        if value is None
        else table[column].eq(value).astype("float64").where(table[column].notna())
        for key, (column, value) in channels.items()
    }
    return pd.DataFrame(columns).set_axis(table["RecordID"])


def _outcome_tables(root: Path) -> list[Path]:
    """Return the outcome tables; each needs its folder of stays, and each folder its table.

    Raises
    ------
    EvenhandError
        If a set lacks its table or its folder.
    """
    tables = {path.stem.removeprefix("Outcomes-"): path for path in root.glob("Outcomes-*.txt")}
    folders = {path.name.removeprefix("set-") for path in root.glob("set-*") if path.is_dir()}
    lacking = [
        f"set-{name} for Outcomes-{name}.txt"
        if name in tables
        else f"Outcomes-{name}.txt for set-{name}"
        for name in sorted(tables.keys() ^ folders)
    ]
    if lacking:
        raise EvenhandError(
            f"{root} lacks {first_few(lacking)}. Put it there, or remove the other half of the set."
        )
    return [tables[name] for name in sorted(tables)]


def _read_outcomes(root: Path, outcomes: Path) -> pd.DataFrame:
    """Return RecordID, death, file and file stamp of each stay of a set; refuse absent files."""
    table = read_table(outcomes, like=".csv")
    require_columns(table, outcomes, ("RecordID", DEATH))
    refuse_blank(table, outcomes, ("RecordID", DEATH))
    refuse_repeated(table, outcomes, "RecordID")
    refuse_rows(~table[DEATH].isin(["0", "1"]), outcomes, f"{DEATH} must be 0 or 1.")
    folder = root / outcomes.stem.replace("Outcomes-", "set-")
    file_of = {file.stem: str(file) for file in folder.glob("*.txt")}
    status = read_status(table["RecordID"].map(lambda name: file_of.get(name, "")), outcomes, root)
    absent = pd.Series(~status.exists, table.index)
    problem = f"there is no file {folder.name}/<RecordID>.txt for these outcomes. Put it there, or"
    refuse_rows(absent, outcomes, f"{problem} take the rows out.")
    without_outcome = sorted(file_of.keys() - set(table["RecordID"]))
    if without_outcome:
        raise EvenhandError(
            f"{outcomes} has no outcome for {len(without_outcome)} stays of {folder}: "
            f"{first_few(without_outcome)}. Add the rows, or take the files out."
        )
    stamps = pd.Series(list(status.stamps()), table.index)
    stays = table[["RecordID"]].assign(file=status.files.map(Path), stamp=stamps)
    stays[DEATH] = table[DEATH].astype("int64")
    return stays.reset_index(drop=True)


def _read_admission(file: Path) -> dict[str, object]:
    """Return the patient's data at admission, and whether the stay has no measurement."""
    names = ("Age", "Gender", "ICUType", "Height")
    admission: dict[str, object] = {**dict.fromkeys(names), "empty": True}
    with file.open("rb", buffering=0) as start:
        lines = start.read(ADMISSION).decode().split("\n")
    for line in lines[1:]:
        time, _, rest = line.partition(",")
        name, _, value = rest.rstrip().partition(",")
        if time == "00:00" and name in admission:
            admission[name] = None if value.startswith("-") else value
        elif name not in ("", "Weight", *GENERAL):
            admission["empty"] = False
            if time != "00:00":
                break
    return admission


def _read_stay(files: Mapping[str, Path], name: str) -> Values:
    """Read a stay's file as ``(48, 37)``."""
    file = files[name]
    lines = file.read_text(encoding="utf-8").split("\n")
    if lines[0].rstrip() != HEADER:
        raise UnreadableError(f"{file}, row 1: the header is {lines[0]!r}, not {HEADER!r}.")
    try:
        minute, channel, value = _parse_lines([line for line in lines[1:] if line])
    except ValueError:
        raise _first_problem(lines, file) from None
    valid = (channel >= 0) & (value != UNMEASURED)
    cell = (np.minimum(minute // 60, HOURS - 1) * len(CHANNELS) + channel)[valid]
    total, count = (
        np.bincount(cell, weights, HOURS * len(CHANNELS)).reshape(HOURS, len(CHANNELS))
        for weights in (value[valid], None)
    )
    if not count[:, : CHANNEL_INDEX["Weight"]].any():
        raise UnreadableError(f"{file} holds no measurement.")
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)  # 0 / 0 is NaN: not observed


def _parse_lines(
    lines: Sequence[str], earliest: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return minute, channel (-1 for data of the patient) and value of each line.

    ``earliest`` is the smallest allowed minute. Converting all lines at once takes a third of the
    time of converting line by line.

    Raises
    ------
    ValueError
        If a line is malformed, its parameter is unknown, or its time is earlier than that of the
        line above or later than 48 hours. The message quotes the correct line only if there is
        exactly one.
    """
    try:
        times, names, texts = zip(*(line.split(",") for line in lines), strict=True)
        minute_of = {time: int(time[:-3]) * 60 + int(time[-2:]) for time in set(times)}
        value = np.array([float(text) for text in texts])
    except ValueError:
        raise ValueError(f"{''.join(lines[:1])!r} is no hh:mm,NAME,VALUE.") from None
    minute = np.array([minute_of[time] for time in times])
    if (np.diff(minute, prepend=earliest) < 0).any():
        raise ValueError(f"the time {times[0]} is earlier than the row above.")
    if minute[-1] > HOURS * 60:
        raise ValueError(f"the time {times[0]} is beyond {HOURS} hours.")
    try:
        channel = np.array([CHANNEL_INDEX[name] for name in names])
    except KeyError:
        parameters = ", ".join((*GENERAL, *CHANNELS))
        raise ValueError(f"there is no parameter {names[0]!r}; there are: {parameters}.") from None
    return minute, channel, value


def _first_problem(lines: Sequence[str], file: Path) -> UnreadableError:
    """Return the error for the first invalid line below the header of a file."""
    since = 0
    for row, line in enumerate(lines[1:], start=2):
        if line:
            try:
                since = int(_parse_lines([line], since)[0][0])
            except ValueError as error:
                return UnreadableError(f"{file}, row {row}: {error}")
    return UnreadableError(f"{file} holds no measurement.")
