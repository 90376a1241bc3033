"""MIMIC-III in-hospital mortality, as the mimic3-benchmarks export it (Harutyunyan et al. 2019)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import UnreadableError, Values
from evenhand.cohort.layouts import find_optional
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.cohort.series.recordings import Series, whole_recordings
from evenhand.errors import first_few
from evenhand.tables.attributes import attribute_by_level, race_attribute, sex_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import look_up, plain_cell, read_table, stack_tables
from evenhand.tables.table_checks import refuse_rows, require_columns

HOURS = 48
EDGE = 1e-6  # hours; a time at the end of an hour belongs to this hour, as in the benchmark
# The values of the five categorical variables, in the order of the benchmark's channels.
CATEGORIES = {
    "Capillary refill rate": ("0", "1"),
    "Glascow coma scale eye opening": (
        "To Pain",
        "3 To speech",
        "1 No Response",
        "4 Spontaneously",
        "None",
        "To Speech",
        "Spontaneously",
        "2 To pain",
    ),
    "Glascow coma scale motor response": (
        "1 No Response",
        "3 Abnorm flexion",
        "Abnormal extension",
        "No response",
        "4 Flex-withdraws",
        "Localizes Pain",
        "Flex-withdraws",
        "Obeys Commands",
        "Abnormal Flexion",
        "6 Obeys Commands",
        "5 Localizes Pain",
        "2 Abnorm extensn",
    ),
    "Glascow coma scale total": (
        *("11", "10", "13", "12", "15", "14"),
        *("3", "5", "4", "7", "6", "9", "8"),
    ),
    "Glascow coma scale verbal response": (
        "1 No Response",
        "No Response",
        "Confused",
        "Inappropriate Words",
        "Oriented",
        "No Response-ETT",
        "5 Oriented",
        "Incomprehensible sounds",
        "1.0 ET/Trach",
        "4 Confused",
        "2 Incomp sounds",
        "3 Inapprop words",
    ),
}
VARIABLES = (
    "Capillary refill rate",
    "Diastolic blood pressure",
    "Fraction inspired oxygen",
    "Glascow coma scale eye opening",
    "Glascow coma scale motor response",
    "Glascow coma scale total",
    "Glascow coma scale verbal response",
    "Glucose",
    "Heart Rate",
    "Height",
    "Mean blood pressure",
    "Oxygen saturation",
    "Respiratory rate",
    "Systolic blood pressure",
    "Temperature",
    "Weight",
    "pH",
)
CHANNELS = (
    *(
        f"{name}: {value}" if value else name
        for name in VARIABLES
        for value in CATEGORIES.get(name, ("",))
    ),
    *(f"observed: {name}" for name in VARIABLES),
)


def hourly_grid(lines: Iterable[Sequence[str]]) -> Values:
    """Return the grid ``(48, 76)``: the last value of each hour, NaN for hours without a value.

    Parameters
    ----------
    lines
        The cells of the header, then those of each line.

    Raises
    ------
    ValueError
        If a column is missing, a line is cut off, or a cell is neither a number nor a known
        category.
    """
    header, *rows = [*lines] or [[]]
    absent = {"Hours", *VARIABLES} - set(header)
    if absent:
        raise ValueError(f"it has no column {', '.join(sorted(absent))}")
    values: Values = np.full((HOURS, len(CHANNELS)), np.nan, np.float32)
    observed = values[:, -len(VARIABLES) :]
    observed[:] = 0
    time_column, *columns = (header.index(name) for name in ("Hours", *VARIABLES))
    for line, cells in enumerate(rows, start=2):
        if not cells:
            continue
        if len(cells) < len(header):
            raise ValueError(f"line {line} is cut off")
        time = float(cells[time_column])
        if time < -EDGE or time > HOURS + EDGE:
            continue
        hour = min(int(time - EDGE), HOURS - 1)
        for number, column in enumerate(columns):
            if cells[column]:
                _write_cell(values[hour], VARIABLES[number], cells[column])
                observed[hour, number] = 1
    return values


_FIRST_CHANNEL = {
    name: CHANNELS.index(next(c for c in CHANNELS if c.startswith(name))) for name in VARIABLES
}
_CATEGORY_INDEX: Mapping[str, Mapping[str, int]] = {
    name: {plain_cell(value): index for index, value in enumerate(values)}
    for name, values in CATEGORIES.items()
}


def _write_cell(row: Values, name: str, cell: str) -> None:
    """Write a cell into the channels of its variable."""
    first, categories = _FIRST_CHANNEL[name], _CATEGORY_INDEX.get(name)
    if categories is None:
        row[first] = float(cell)
    else:
        category = categories.get(plain_cell(cell))
        if category is None:
            raise ValueError(f"{name} is {cell!r}; known are {', '.join(CATEGORIES[name])}")
        row[first : first + len(categories)] = 0
        row[first + category] = 1


OLDEST = 90  # years; MIMIC-III dates the births of patients over 89 to 300 years ago
SOCIAL = ("LANGUAGE", "INSURANCE", "RELIGION", "ETHNICITY")
COLUMNS = (*SOCIAL, "GENDER", "AGE")
DEMOGRAPHICS = LayoutEntry(
    "demographics*.csv",
    f"SUBJECT_ID, {', '.join(COLUMNS)}",
    required=False,
    columns=COLUMNS,
)
PATIENTS = LayoutEntry(
    "PATIENTS.csv*",
    "SUBJECT_ID, GENDER, DOB; of MIMIC-III, where there are no demographics",
    required=False,
    columns=("GENDER", "AGE"),
)
ADMISSIONS = LayoutEntry(
    "ADMISSIONS.csv*",
    f"SUBJECT_ID, ADMITTIME, {', '.join(SOCIAL)}; of MIMIC-III, too",
    required=False,
    columns=(*SOCIAL, "AGE"),
)
SPLITS = {"train": "train_listfile.csv", "val": "val_listfile.csv", "test": "test_listfile.csv"}
MIMIC3_MORTALITY = DataSet(
    title="MIMIC-III in-hospital mortality (mimic3-benchmarks)",
    task="death in hospital, from the first 48 hours in intensive care",
    modality="series: 17 variables by the hour, 76 channels",
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    access="https://physionet.org/content/mimiciii, after training and a signed agreement; "
    "exported by https://github.com/YerevaNN/mimic3-benchmarks",
    layout=(
        LayoutEntry("train/listfile.csv", "stay, y_true"),
        LayoutEntry("test/listfile.csv", "stay, y_true"),
        DEMOGRAPHICS,
        PATIENTS,
        ADMISSIONS,
        LayoutEntry(
            "val_listfile.csv", "beside train_ and test_listfile.csv: own splits", required=False
        ),
    ),
    labels={"mortality": by_value("y_true", {"survived": ("0",), "died": ("1",)})},
    attributes=(
        sex_attribute("GENDER"),
        attribute_by_bins("age", "AGE", (65,)),
        race_attribute("ethnicity", "ETHNICITY"),
        attribute_by_level("language", "LANGUAGE", {"English": ("ENGL", "ENGLISH")}, rest="other"),
    ),
    open_attributes={"insurance": "INSURANCE", "religion": "RELIGION"},
    caution="Misleads about other hospitals: it is one, whose care and records shape labels and "
    "features. Ethnicity comes from registration.",
)


@published("mimic3_mortality", MIMIC3_MORTALITY)
def find_mimic3_mortality(root: Path) -> SourceSamples:
    """Find the stays; use the benchmark's splits if all three of its lists exist."""
    lists = {part: root / part / "listfile.csv" for part in ("train", "test")}
    table = stack_tables(
        {f"{part}/{path.name}": _read_stays(path, root / part) for part, path in lists.items()}
    )
    files = (str(path) for part in lists for path in root.glob(f"{part}/*_timeseries.csv"))
    unused_files = tuple(sorted(set(files) - set(table["file"])))
    table, people = _with_people(table, root)
    table, splits, notes = _with_split(table, root)
    return SourceSamples(
        table,
        sample="stay",
        patient="SUBJECT_ID",
        source=root,
        tables=(*lists.values(), *people, *splits),
        read=_series,
        channels=CHANNELS,
        unused_files=unused_files,
        notes=notes,
    )


def _read_stays(path: Path, folder: Path) -> pd.DataFrame:
    table = read_table(path)
    require_columns(table, path, ("stay", "y_true"))
    subject = table["stay"].str.extract(r"^(\d+)_", expand=False)
    problem = "'stay' is not of the form 12797_episode1_timeseries.csv."
    refuse_rows(subject.isna(), path, problem)
    return table.assign(SUBJECT_ID=subject, file=f"{folder}/" + table["stay"])


def _with_people(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[Path]]:
    """Return the stays with their subjects' demographics, and the paths of the tables read.

    MIMIC-III's own tables give the demographics at the first admission.
    """
    path = find_optional(root, DEMOGRAPHICS)
    if path is not None:
        table = look_up(table, "SUBJECT_ID", read_table(path), path, COLUMNS)
        return table.assign(AGE=_decode_ages(table["AGE"])), [path]
    tables = []
    for entry, columns in ((PATIENTS, ("GENDER", "DOB")), (ADMISSIONS, ("ADMITTIME", *SOCIAL))):
        path = find_optional(root, entry)
        if path is not None:
            people = read_table(path).rename(columns=str.upper)
            if entry is ADMISSIONS:
                require_columns(people, path, ("SUBJECT_ID", "ADMITTIME"))
                people = people.sort_values("ADMITTIME", kind="stable")
                people = people.drop_duplicates("SUBJECT_ID")
            table = look_up(table, "SUBJECT_ID", people, path, columns)
            tables.append(path)
    if {"DOB", "ADMITTIME"} <= set(table.columns):
        table["AGE"] = _age_at_admission(table["DOB"], table["ADMITTIME"])
    return table, tables


def _age_at_admission(born: pd.Series, admitted: pd.Series) -> pd.Series:
    """Return years from birth to admission, from text: pandas may not represent 300 years.

    Examples
    --------
    >>> born = pd.Series(["2075-03-13 00:00:00", "1880-01-01 00:00:00", None], dtype="str")
    >>> _age_at_admission(born, pd.Series(["2140-03-12 23:59:00"] * 3, dtype="str")).tolist()
    ['64', '90', nan]
    """
    birth_year, admission_year = (
        pd.to_numeric(day.str[:4], errors="coerce") for day in (born, admitted)
    )
    years = admission_year - birth_year - (admitted.str[5:10] < born.str[5:10])
    return years.clip(upper=OLDEST).map("{:.0f}".format, na_action="ignore").astype("str")


def _with_split(
    table: pd.DataFrame, root: Path
) -> tuple[pd.DataFrame, list[Path], tuple[str, ...]]:
    """Return the stays with the benchmark's split, the paths of its lists, and notes."""
    splits = {part: root / name for part, name in SPLITS.items() if (root / name).is_file()}
    absent = [name for part, name in SPLITS.items() if part not in splits]
    if absent:
        present = first_few(path.name for path in splits.values())
        note = f"The benchmark's split ({present}) is not kept: there is no {first_few(absent)}."
        return table, [], (note,) if splits else ()
    part_of = {stay: part for part, path in splits.items() for stay in _read_list(path)}
    return table.assign(split=table["stay"].map(part_of)), [*splits.values()], ()


def _read_list(path: Path) -> pd.Series:
    """Return the stays of one part of the benchmark's split."""
    table = read_table(path)
    require_columns(table, path, ("stay",))
    return table["stay"]


def _decode_ages(age: pd.Series) -> pd.Series:
    """Return ages in years; a table with only 1 (under 65) and 0 gets 64 and 65."""
    coded = age.dropna().isin(["0", "1", "0.0", "1.0"]).all()
    return age.map(plain_cell, na_action="ignore").map({"1": "64", "0": "65"}) if coded else age


def _series(table: pd.DataFrame) -> Series:
    files = dict(zip(table["stay"], table["file"], strict=True))
    rows = dict(zip(table["stay"], table.index, strict=True))

    def load(stay: str) -> Values:
        try:
            with Path(files[stay]).open(newline="", encoding="utf-8") as file:
                return hourly_grid(csv.reader(file))
        except (OSError, ValueError, csv.Error) as error:
            where = f"{files[stay]} ({rows[stay]})"
            raise UnreadableError(f"{where} cannot be read: {error!r}") from error

    return whole_recordings(table["stay"].tolist(), load, HOURS)
