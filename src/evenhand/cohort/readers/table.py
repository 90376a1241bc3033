"""A user's own CSV or parquet table: a row per sample, with its file, label and patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort, Read, Source, cohort_table
from evenhand.cohort.images.kinds import own_pictures, split_parts
from evenhand.cohort.layouts import FileStatus, files_below, read_status
from evenhand.cohort.registry import LONG_TABLE, DataSet, refuse_settings, register_reader
from evenhand.cohort.series.files import series_files
from evenhand.cohort.series.long_table import STEP, VARIABLE, long_series
from evenhand.cohort.series.recordings import Series
from evenhand.cohort.series.static import (
    numeric_columns,
    static_fingerprint,
    static_note,
    with_static,
)
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.splits import split_column
from evenhand.errors import EvenhandError, first_few, pick
from evenhand.files import Stamp, fingerprint
from evenhand.tables.attributes import attribute_parts
from evenhand.tables.bins import parse_bins
from evenhand.tables.classes import Classes, order_classes
from evenhand.tables.own_attributes import OwnAttribute, read_own_attribute
from evenhand.tables.reading import read_table
from evenhand.tables.spelling import refuse_spellings, whole_number
from evenhand.tables.table_checks import (
    refuse_blank,
    refuse_ids,
    refuse_repeated,
    refuse_rows,
    require_columns,
    rows_text,
)
from evenhand.tables.values import ValueRules, read_values

ABOUT = DataSet(
    title="a table of your own",
    task="the classes of a label column",
    modality="images or series in files",
    licence="yours",
    access="a CSV, parquet or xlsx table with a row per sample: --image-column or --series-column "
    "(a CSV per series, or --series-table), --label, --patient",
    yours={
        "labels": "a column of yours",
        "attributes": "columns of yours",
        "layout": "PATH: the table; paths in it are relative to its folder",
    },
    caution="Misleads where patients are not given: samples of one person can then lie in training "
    "and test.",
)


SAMPLE = "sample in a file"
"""Column of sample ids, used if a file holds several samples."""


@register_reader("table", ABOUT)
def read_own_table(path: str, settings: DataSettings) -> Cohort:
    """Read a CSV or parquet table of your own, with columns for file, label and patient.

    A file is an image, or a series (`evenhand.cohort.series.files`); series may also lie in one
    long table (`evenhand.cohort.series.long_table`). Paths are relative to the table's folder, and
    are the sample ids. The classes are the label's values, sorted; with two classes, the last is
    positive. A column ``split`` (train, val, test) is used as the split.
    """
    return open_table(path, settings)


@dataclass(frozen=True, eq=False)
class TableSamples:
    """Samples of a table: which rows have a sample, and how to read it."""

    exists: NDArray[np.bool_]  # (rows,), whether the sample of a row exists
    absent: tuple[str, ...]  # messages about samples that do not exist
    read: Read
    channels: tuple[str, ...]  # of series; empty for images
    fingerprint: str
    rows: NDArray[np.intp] | None = None  # row of each sample; None: one sample per row
    ids: pd.Series | None = None  # sample ids; None: the table's own


def table_cohort(
    name: str,
    table: pd.DataFrame,
    source: Path,
    columns: tuple[str, str, str],
    settings: DataSettings,
    root: Path | None = None,
) -> Cohort:
    """Return the cohort of a table; ``columns`` names those of file, label and patient.

    Paths are relative to ``source``, or to its folder if it is a file. Files are series if
    ``settings`` name a column of series, else images. Links may not leave the folder ``root``.
    """

    def find(names: pd.Series) -> TableSamples:
        if settings.series_table:
            return _in_long_table(names, source, settings)
        return _in_files(names, source, settings, root)

    return build_cohort(name, table, source, columns, settings, find)


def build_cohort(
    name: str,
    table: pd.DataFrame,
    source: Path,
    columns: tuple[str, str, str],
    settings: DataSettings,
    find: Callable[[pd.Series], TableSamples],
) -> Cohort:
    """Return the cohort of a table after all checks of its columns.

    Parameters
    ----------
    name, source
        Name of the reader, and path of the table for messages.
    table
        Table of text; its index is the row number that messages show.
    columns
        Names of its columns of sample, label and patient.
    settings
        The attributes, their bins, and rules for values.
    find
        Function from the column of samples to the samples that exist, with the way to read them.
    """
    file, label, patient = columns
    values = read_values(settings)
    table = _checked_table(table, source, columns, settings, values)
    codes, classes = _classes(table[label], source, settings.positive)
    own_attributes = _attributes(table, source, table[patient], settings, values)
    attributes = {name: own.rule for name, own in own_attributes.items()}
    table = table.assign(**{name: own.raw for name, own in own_attributes.items()})
    samples = find(table[file])
    table, codes = table[samples.exists], codes[samples.exists]
    if settings.static:
        samples = _with_static(samples, table, columns, source, settings.static)
    if samples.rows is not None and samples.ids is not None:
        table, codes = table.iloc[samples.rows], codes.iloc[samples.rows]
        table = table.assign(**{SAMPLE: samples.ids.to_numpy()})
    sample = file if samples.ids is None else SAMPLE
    notes = [note for own in own_attributes.values() for note in own.notes]
    return Cohort(
        table=cohort_table(table, sample, patient, codes, attributes).assign(
            **split_column(table, patient, source)
        ),
        read=samples.read,
        attributes=attributes,
        classes=classes.names,
        classes_ordered=classes.ordered,
        source=Source(
            reader=name,
            path=str(source),
            unit="image" if patient == file else "patient",
            fingerprint=samples.fingerprint,
            label=f"{label}: {', '.join(classes.names)}",
            slices=settings.slices,
            left_out=samples.absent,
            notes=(*notes, *static_note(settings.static, settings.attribute)),
        ),
        channels=samples.channels,
    )


def _checked_table(
    table: pd.DataFrame,
    source: Path,
    columns: tuple[str, str, str],
    settings: DataSettings,
    values: ValueRules,
) -> pd.DataFrame:
    """Check the names, blanks and ids of a table; return it with the user's values of the label."""
    file, label, patient = columns
    names = _attribute_names(settings)
    values.check_names((*names, label, *([VARIABLE] if settings.series_table else [])))
    require_columns(table, source, (*columns, *names))
    if label in names:
        raise EvenhandError(
            f"--attribute {label} is also the label: each of its groups would have one class. Name "
            "another attribute, or another --label."
        )
    table = table.assign(**{label: values.apply(label, table[label])})
    refuse_blank(table, source, columns)
    refuse_repeated(table, source, file)
    refuse_ids(table[patient], source, "patient")
    return table


def _attribute_names(settings: DataSettings) -> list[str]:
    """Return the attributes that the settings name, and the parts of intersections, sorted."""
    return sorted({part for name in settings.attribute for part in attribute_parts(name)})


def _with_static(
    samples: TableSamples,
    table: pd.DataFrame,
    columns: tuple[str, str, str],
    source: Path,
    names: tuple[str, ...],
) -> TableSamples:
    """Add static channels to series: numeric columns, as values that the first step observes."""
    assert isinstance(samples.read, Series)
    static = numeric_columns(table, names, columns, source).set_axis(table[columns[0]])
    read, channels = with_static(samples.read, samples.channels, static)
    digest = static_fingerprint(samples.fingerprint, static)
    return replace(samples, read=read, channels=channels, fingerprint=digest)


def _in_files(
    names: pd.Series, source: Path, settings: DataSettings, root: Path | None
) -> TableSamples:
    """Find samples that are files, in the folder ``source`` or beside the file ``source``."""
    paths, parts = split_parts(names, _folder(source))
    seen = read_status(paths, source, root)
    if settings.patient == names.name:
        _refuse_parts_as_patients(paths[parts != ""], source, str(names.name))
    exists = seen.exists
    absent = seen.absent(source, skip=settings.skip_unreadable)
    tables = [source] if source.is_file() else []
    if settings.series_column is not None:
        digest = fingerprint(seen.stamps(), tables)
        read, channels = series_files(seen.files[exists], names[exists], source)
        return TableSamples(exists, absent, read, channels, digest)
    stamps = chain(seen.stamps(), _stamps_of_slices(seen, source, root))
    digest = fingerprint(stamps, tables) + (f"-{settings.slices}" if settings.slices else "")
    files = (seen.files[exists], names[exists], parts[exists])
    own = own_pictures(*files, source, settings.slices)
    return TableSamples(exists, absent, own.read, (), digest, own.rows, own.ids)


def _refuse_parts_as_patients(files: pd.Series, source: Path, column: str) -> None:
    """Refuse parts of a file as patients: samples of one file belong to one patient."""
    several = files[files.duplicated(keep=False)]
    if len(several):
        raise EvenhandError(
            f"{source}, {rows_text(several.index)}: --patient {column} makes each part of a file a "
            f"separate patient, but {first_few(several.unique())} has several parts. Name a column "
            "of patients."
        )


def _stamps_of_slices(seen: FileStatus, source: Path, root: Path | None) -> Iterator[Stamp]:
    """Yield the stamp of each file in the folders of slices."""
    folders = seen.files[seen.folder]
    if len(folders):
        yield from read_status(files_below(folders), source, root).stamps()


def _in_long_table(names: pd.Series, source: Path, settings: DataSettings) -> TableSamples:
    """Find samples that are series in one long table."""
    path = _folder(source) / str(settings.series_table)
    read, channels = long_series(path, names, source, settings)
    # A change of any of these changes the values that are read.
    grid = (names.name, settings.series_step or STEP, read.steps, channels)
    text = json.dumps([fingerprint((), (source, path)), *grid])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return TableSamples(np.ones(len(names), np.bool_), (), read, channels, digest)


def open_table(
    path: str,
    settings: DataSettings,
    edit: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
    renamed: Mapping[str, str] | None = None,
) -> Cohort:
    """Return the cohort of a user's table, after an edit of its columns.

    Parameters
    ----------
    edit
        Function from the table of text in the file to the table that the settings describe.
    renamed
        A column's name in the file, by its name in the settings.
    """
    source, columns = Path(path), _columns(settings)
    file, _, patient = columns
    if settings.series_column is not None:
        refuse_settings("a table of series", settings, ("slices",))
    else:
        refuse_settings("a table of images", settings, ("static",))
    ids = [(renamed or {}).get(name, name) for name in (file, patient)]
    return table_cohort("table", edit(read_table(source, ids=ids)), source, columns, settings)


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _columns(settings: DataSettings) -> tuple[str, str, str]:
    """Return the columns of file, label and patient."""
    image, series = settings.image_column, settings.series_column
    if image is not None and series is not None:
        raise EvenhandError(
            "a table has images or series: give --image-column or --series-column, not both."
        )
    long_table_settings = [name for name in LONG_TABLE if getattr(settings, name)]
    if long_table_settings and (series is None or settings.series_table is None):
        flag_text = " and ".join(f"--{name.replace('_', '-')}" for name in long_table_settings)
        raise EvenhandError(
            f"{flag_text}: a long table of series needs --series-table, the table, and "
            "--series-column, the column of both tables that names each series."
        )
    file, label, patient = image or series, settings.label, settings.patient
    if file is None or label is None or patient is None:
        flags = ("--image-column or --series-column", "--label", "--patient")
        columns = dict(zip(flags, (file, label, patient), strict=True))
        missing = " and ".join(flag for flag, column in columns.items() if column is None)
        hint = (
            ""
            if patient
            else " If each file is a separate patient, give --patient the column of files."
        )
        raise EvenhandError(f"a table needs {missing}: name the column that holds it.{hint}")
    return file, label, patient


def _classes(raw: pd.Series, source: Path, positive: str | None) -> tuple[pd.Series, Classes]:
    """Return the class of each row and the classes, in order."""
    name = str(raw.name)
    refuse_spellings(name, raw, source)
    number = pd.to_numeric(raw, errors="coerce")
    if number.notna().all():
        problem = f"the label {name!r} is not a class: give whole numbers or names."
        refuse_rows(number % 1 != 0, source, problem)
        raw = number.astype("int64").astype("str")
        positive = positive if positive is None else whole_number(positive)
    classes = order_classes([str(value) for value in raw.unique()], positive, repr(name))
    codes = raw.map({value: code for code, value in enumerate(classes.names)})
    return codes, classes


def _attributes(
    table: pd.DataFrame,
    source: Path,
    patients: pd.Series,
    settings: DataSettings,
    values: ValueRules,
) -> dict[str, OwnAttribute]:
    names, bins = _attribute_names(settings), parse_bins(settings.bins)
    for name in bins:
        pick("attribute for --bins:", name, dict.fromkeys(names))
    return {
        name: read_own_attribute(name, table[name], patients, source, bins.get(name), values)
        for name in names
    }
