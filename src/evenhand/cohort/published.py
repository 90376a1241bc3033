"""Readers of published data sets: turn the samples that a reader finds into a cohort.

A reader describes its data set (a ``DataSet``) and finds its samples (a function from the root
folder to ``SourceSamples``). The other steps are the same for all readers, and are in this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from evenhand.cohort.cohort import Cohort, Read, Source, cohort_table
from evenhand.cohort.images.decoding import Open, image_files, open_picture
from evenhand.cohort.images.volumes import ReadSlice, expand_slices, volume_slices
from evenhand.cohort.layouts import check_layout, files_below, locate, read_status, refuse_outside
from evenhand.cohort.registry import SERIES, DataSet, Label, refuse_settings, register_reader
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.splits import split_column
from evenhand.errors import EvenhandError, first_few, import_extra, pick
from evenhand.files import Stamp, fingerprint
from evenhand.tables.attributes import UNKNOWN, Attribute, attribute_of_values, attribute_parts
from evenhand.tables.bins import parse_bins
from evenhand.tables.own_attributes import impossible_ages
from evenhand.tables.spelling import refuse_spellings, whole_numbers
from evenhand.tables.table_checks import refuse_blank, refuse_repeated, require_columns, rows_text
from evenhand.tables.values import read_values


@dataclass(frozen=True, eq=False)
class SourceSamples:
    """The samples of a data set as its tables list them, before labels and attributes are applied.

    Parameters
    ----------
    table
        A row for each sample, as text. Columns: ``sample``, ``patient``, and those that labels and
        attributes read; the columns of absent optional files may be missing. ``file`` is a path; it
        is not needed if one file holds all samples. ``split`` (train, val, test) is the data set's
        own split, if it is the same for all labels. The index is the row number in ``source``.
    sample, patient
        The names of the columns of sample ids and of patient ids.
    source
        For messages: the path of the table, or the folder of several (see ``stack_tables``).
    tables
        All tables that were read; by default ``source`` alone.
    open
        Opens a file as a picture.
    read_slice
        Reads a slice, if the files are volumes.
    volume_remark
        Returns a sentence for the run's notes on how a volume is read, or "".
    read
        Returns the `Read` of the given rows, if samples are not single image files: for series, or
        pictures that lie in one file.
    channels
        The names of the channels of series.
    unused_files
        Files that look like samples but are in no row.
    notes
        Further sentences about the data for the report.
    """

    table: pd.DataFrame
    sample: str
    patient: str
    source: Path
    tables: tuple[Path, ...] = ()
    open: Open = open_picture
    read_slice: ReadSlice | None = None
    volume_remark: Callable[[Path], str] = lambda _: ""
    read: Callable[[pd.DataFrame], Read] | None = None
    channels: tuple[str, ...] = ()
    unused_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Find = Callable[[Path], SourceSamples]
"""Finds the samples of a data set below its root; the root's layout has been checked before."""


def published(name: str, data_set: DataSet) -> Callable[[Find], Find]:
    """Register the decorated function, which finds samples, as reader of a published data set."""

    def register(find: Find) -> Find:
        def open_cohort(path: str, settings: DataSettings) -> Cohort:
            unused_slices = () if data_set.slices else ("slices",)
            unused = ("patient", "image_column", "positive", "conflict", *SERIES, *unused_slices)
            refuse_settings(name, settings, unused)
            for module in data_set.needs:
                import_extra(module, "readers")
            root = Path(path)
            convention = settings.label or next(iter(data_set.labels))
            pick(f"label of {name}", convention, data_set.labels)
            check_layout(root, data_set)
            samples = find(root)
            table = _with_blank_columns(samples.table, data_set, root, settings.attribute)
            return _cohort(name, data_set, replace(samples, table=table), root, settings)

        open_cohort.__module__ = find.__module__
        register_reader(name, data_set)(open_cohort)
        return find

    return register


def _with_blank_columns(
    table: pd.DataFrame, data_set: DataSet, root: Path, attributes: Iterable[str]
) -> pd.DataFrame:
    """Return a table with a blank column for each column of an absent optional file.

    Raises
    ------
    EvenhandError
        If the user names an attribute that reads one of these columns.
    """
    optional = [entry for entry in data_set.layout if entry.columns]
    blank = dict.fromkeys(name for entry in optional for name in entry.columns)
    blank = {name: None for name in blank if name not in table.columns}
    column_of = {r.name: r.column for r in data_set.attributes} | {**data_set.open_attributes}
    for name in (part for attribute in attributes for part in attribute_parts(attribute)):
        if column_of.get(name) in blank:
            lacking = [e for e in optional if column_of[name] in e.columns and not locate(root, e)]
            files = " or ".join(f"{entry.name} ({entry.what})" for entry in lacking)
            raise EvenhandError(
                f"{root} lacks {files}, which the attribute {name!r} is read from. Put it there, "
                "or name another attribute."
            )
    return table.assign(**blank)


def _cohort(
    name: str, data_set: DataSet, samples: SourceSamples, root: Path, settings: DataSettings
) -> Cohort:
    tables = samples.tables or (samples.source,)
    refuse_outside(tables, root)
    convention = settings.label or next(iter(data_set.labels))
    table, classes, meaning = _with_classes(samples, data_set, data_set.labels[convention])
    table, stamps, absent = _existing_rows(samples, table, root, skip=settings.skip_unreadable)
    table, notes = _without_impossible_ages(data_set, table, samples.source)
    open_columns = list(data_set.open_attributes.values())
    table = table.assign(**{column: whole_numbers(table[column]) for column in open_columns})
    attributes = _attributes(name, data_set, table, samples.source, settings)
    slices = settings.slices or data_set.slices
    table, sample, read = _make_read(samples, table, slices)
    files = fingerprint(stamps, tables)
    return Cohort(
        table=cohort_table(table, sample, samples.patient, table["class"], attributes).assign(
            **split_column(table, samples.patient, samples.source)
        ),
        read=read,
        attributes=attributes,
        classes=classes,
        source=Source(
            reader=name,
            path=str(root),
            unit=data_set.unit,
            fingerprint=f"{files}-{slices}" if slices else files,
            label=f"{convention}: {meaning}",
            slices=slices or None,
            window=data_set.window,
            left_out=absent,
            notes=(*_unused_files_notes(samples), *samples.notes, *notes),
        ),
        channels=samples.channels,
    )


def _with_classes(
    samples: SourceSamples, data_set: DataSet, label: Label
) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    """Return the rows that have a class (its number: ``class``), the classes and the meaning."""
    table, source = samples.table, samples.source
    refuse_blank(table, source, (samples.sample, samples.patient))
    refuse_repeated(table, source, samples.sample)
    require_columns(table, source, _columns(data_set, label))
    if label.split is not None:
        table = table.assign(split=table[label.split])
    name, classes = label.classify(table, source)
    number = name.map({class_name: number for number, class_name in enumerate(classes)})
    unlabelled = int(number.isna().sum())
    left_out = f"; {unlabelled} of {len(table)} samples left out" if unlabelled else ""
    return (
        table.assign(**{"class": number}).dropna(subset="class"),
        classes,
        f"{label.meaning}{left_out}",
    )


def _existing_rows(
    samples: SourceSamples, table: pd.DataFrame, root: Path, *, skip: bool
) -> tuple[pd.DataFrame, Iterable[Stamp], tuple[str, ...]]:
    """Return the rows whose files exist, the stamps of the files, and sentences on absent ones."""
    if "file" not in table.columns:
        return table, (), ()
    # Python strings: each access to an Arrow string would create a new one, which is slow.
    table = table.assign(file=table["file"].astype(object))
    status = read_status(table["file"], samples.source, root)
    absent = status.absent(samples.source, skip=skip)
    table = table.assign(file=status.files)[status.exists]
    if samples.read_slice is not None:
        status = read_status(files_below(table["file"]), samples.source, root)
    return table, status.stamps(), absent


def _unused_files_notes(samples: SourceSamples) -> tuple[str, ...]:
    """Return a note on files that no row names, which may mean that a table is incomplete."""
    if not samples.unused_files:
        return ()
    return (
        f"{len(samples.unused_files)} of the files below the folder are named by no row of "
        f"{samples.source} and are not used: {first_few(samples.unused_files)}.",
    )


def _make_read(
    samples: SourceSamples, table: pd.DataFrame, slices: int
) -> tuple[pd.DataFrame, str, Read]:
    """Return the table with a row for each sample, its column of sample ids, and the `Read`."""
    if samples.read is not None:
        return table, samples.sample, samples.read(table)
    if samples.read_slice is not None:
        table = expand_slices(table, samples.sample, slices)
        read = volume_slices(table, samples.source, samples.read_slice, samples.volume_remark)
        return table, "slice", read
    files = image_files(table["file"], table[samples.sample], samples.source, samples.open)
    return table, samples.sample, files


def _columns(data_set: DataSet, label: Label) -> list[str]:
    """Return the columns that the label and the attributes need, each once."""
    label_columns = [label.column, *([label.split] if label.split else [])]
    rule_columns = [rule.column for rule in data_set.attributes]
    return list(dict.fromkeys([*label_columns, *rule_columns, *data_set.open_attributes.values()]))


def _without_impossible_ages(
    data_set: DataSet, table: pd.DataFrame, source: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Return a table in which impossible ages are missing, and notes on them."""
    notes = []
    for rule in data_set.attributes:
        if not rule.numeric or rule.name != "age":
            continue
        raw = table[rule.column]
        impossible = impossible_ages(rule.name, raw)
        if impossible.any():
            table = table.assign(**{rule.column: raw.mask(impossible)})
            notes.append(
                f"{rows_text(raw.index[impossible])} of {source}: the age is "
                f"{first_few(raw[impossible].unique())}, which no person has; taken as unknown."
            )
    return table, notes


def _attributes(
    name: str, data_set: DataSet, table: pd.DataFrame, source: Path, settings: DataSettings
) -> dict[str, Attribute]:
    """Return the rules of a data set's attributes, changed by the user's bins and values."""
    bins, values = parse_bins(settings.bins), read_values(settings)
    numeric = {rule.name: rule for rule in data_set.attributes if rule.numeric}
    for binned in bins:
        pick(f"numeric attribute of {name}", binned, numeric)
    values.check_names([*(rule.name for rule in data_set.attributes), *data_set.open_attributes])
    rules = [
        bins[rule.name].attribute(rule.name, rule.column) if rule.name in bins else rule
        for rule in data_set.attributes
    ]
    rules_of_columns = [
        attribute_of_values(part, column, table[column])
        for part, column in data_set.open_attributes.items()
    ]
    rule_of = {rule.name: values.apply_to_levels(rule) for rule in (*rules, *rules_of_columns)}
    for part in {part for attribute in settings.attribute for part in attribute_parts(attribute)}:
        if part in data_set.open_attributes:
            level = rule_of[part].levels_of(table[data_set.open_attributes[part]]).astype("str")
            refuse_spellings(part, level[level != UNKNOWN], source)
    return rule_of
