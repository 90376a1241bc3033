"""Data that a finished model is applied to: columns may be renamed, classes or labels missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.readers import decoded_as_set, reader_of
from evenhand.cohort.readers.table import ABOUT, edited_cohort
from evenhand.errors import EvenhandError, pick, some
from evenhand.evaluation.settings import PredictSettings
from evenhand.tables.columns import parse_map, refuse_no_twins, rename_columns


@dataclass(frozen=True, eq=False)
class NewData:
    """A cohort whose labels are those of the model's classes.

    Attributes
    ----------
    cohort
        All of its samples, none of them read yet.
    unlabelled
        Why the data have no labels, in words; None where they have. Without labels, those in
        ``cohort`` are placeholders.
    pairs
        What twins share, by sample id, "" for a sample without a twin; None where nothing says it.
    """

    cohort: Cohort
    unlabelled: str | None
    pairs: Mapping[str, str] | None = None


def open_new_data(
    settings: PredictSettings, classes: tuple[str, ...], *, label_named: bool
) -> NewData:
    """Open the data that a model of some classes is applied to.

    Parameters
    ----------
    settings
        Complete: what the user left out is filled in from the model's run.
    classes
        The classes of the model.
    label_named
        Whether the user named the label column, which then must exist.

    Raises
    ------
    EvenhandError
        The data cannot be read, a mapped column is missing, or the model lacks one of the classes.
    """
    reader, path = reader_of(settings.data)
    if reader.about is not ABOUT:
        if settings.map:
            raise EvenhandError(
                f"--map renames columns of your own table; the reader of {settings.data} knows its "
                "columns. Leave --map out."
            )
        cohort = decoded_as_set(reader.open(path, settings), settings)
        pairs = _pairs(cohort.table, "sample_id", settings)
        return NewData(_with_classes(cohort, settings.data, classes), None, pairs)
    table = _Table(_renamed(settings), settings, classes, label_named)
    cohort = edited_cohort(path, settings, table.edit, table.renamed)
    cohort = decoded_as_set(cohort, settings)
    return NewData(_with_classes(cohort, settings.data, classes), table.unlabelled, table.pairs)


@dataclass
class _Table:
    """Edits the user's own table while it is read."""

    renamed: Mapping[str, str]
    settings: PredictSettings
    classes: tuple[str, ...]
    label_named: bool
    unlabelled: str | None = None
    pairs: Mapping[str, str] | None = None

    def edit(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the run's column names, and placeholder labels where it has none."""
        path, label = Path(reader_of(self.settings.data)[1]), self.settings.label
        own = list(map(str, table))
        table = rename_columns(table, self.renamed, path)
        self._require_columns(table, path, own)
        sample = self.settings.image_column or self.settings.series_column or ""
        self.pairs = _pairs(table, sample, self.settings)
        if label is None or self.label_named or (label in table and table[label].notna().any()):
            return table
        lacks = f"is blank in all rows of {path}" if label in table else f"is not in {path}"
        self.unlabelled = (
            f"The label {label!r} {lacks}: samples are scored, and nothing is measured. --label or "
            "--map label= names the column of labels."
        )
        # Every class occurs, so that they are read in the model's order.
        return table.assign(**{label: np.resize(np.array(self.classes, object), len(table))})

    def _require_columns(self, table: pd.DataFrame, path: Path, own: list[str]) -> None:
        absent = [name for name in _needed(self.settings) if name not in table]
        if absent:
            attributes = set(absent) & set(_attributes(self.settings))
            others = ", or name other attributes with --attribute" if attributes else ""
            raise EvenhandError(
                f"{path} has no column {some(absent)}, which the model's run names; it has: "
                f"{', '.join(own)}. Name the column that is meant, as in --map "
                f"{absent[0]}=COLUMN{others}."
            )


def _pairs(table: pd.DataFrame, sample: str, settings: PredictSettings) -> dict[str, str] | None:
    """Return what twins share, by sample id; None where no column says it."""
    name = settings.pair_column
    if name is None:
        return None
    if name not in table:
        raise EvenhandError(
            f"{settings.data} has no column {name!r}, which --pair-column names; it has: "
            f"{', '.join(map(str, table))}."
        )
    shared = table[name].astype("str").where(table[name].notna(), "")
    refuse_no_twins(shared, name, settings.data)
    return dict(zip(table[sample].astype("str"), shared, strict=True))


def _needed(settings: PredictSettings) -> list[str]:
    """Return the columns that samples are made from; a table without labels is scored, too."""
    own = (settings.patient, settings.image_column, settings.series_column)
    return list(dict.fromkeys([*filter(None, own), *_attributes(settings)]))


def _attributes(settings: PredictSettings) -> list[str]:
    """Return the columns that attributes and the parts of intersections are read from."""
    return [part for name in settings.attribute for part in name.split("*")]


def _renamed(settings: PredictSettings) -> dict[str, str]:
    """Return the column in the new file for each name of the run that ``--map`` gives."""
    roles = {"label": settings.label, "patient_id": settings.patient}
    names = dict.fromkeys([*roles, *filter(None, [settings.label]), *_needed(settings)])

    def of_run(name: str) -> str:
        pick("--map name", name, names)
        return roles.get(name) or name

    return parse_map(settings.map, of_run, "sex=gender")


def _with_classes(cohort: Cohort, data: str, classes: tuple[str, ...]) -> Cohort:
    """Return a cohort with the model's classes; not all of them need occur."""
    foreign = [name for name in cohort.classes if name not in classes]
    if foreign:
        raise EvenhandError(
            f"{data} has the classes {', '.join(cohort.classes)}; the model tells "
            f"{', '.join(classes)} apart, and not {some(foreign)}. Give the same --label as in the "
            "model's run; in your own table, use the model's class names in the label column."
        )
    numbers = np.array([classes.index(name) for name in cohort.classes], np.int64)
    table = cohort.table.assign(label=numbers[cohort.labels])
    return replace(cohort, table=table, classes=classes)
