"""New data for a trained model: columns may have other names; classes or labels may be absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.readers import reader_of, with_decoding
from evenhand.cohort.readers.table import ABOUT, open_table
from evenhand.errors import EvenhandError, first_few, pick
from evenhand.evaluation.settings import PredictSettings
from evenhand.tables.columns import parse_map, refuse_no_pairs, rename_columns


@dataclass(frozen=True, eq=False)
class NewData:
    """A cohort whose labels are numbers of the model's classes.

    Attributes
    ----------
    cohort
        The samples; their files are not read yet.
    unlabelled
        The reason, as a sentence, why the data have no labels; None if they have. Without labels,
        those in ``cohort`` are placeholders.
    pairs
        The pair id of each sample id, "" for a sample without a twin; None without pair ids.
    """

    cohort: Cohort
    unlabelled: str | None
    pairs: Mapping[str, str] | None = None


def open_new_data(
    settings: PredictSettings, classes: tuple[str, ...], *, label_named: bool
) -> NewData:
    """Open new data for a model.

    Parameters
    ----------
    settings
        The settings, completed from the model's run.
    classes
        The classes of the model.
    label_named
        Whether the user named the label column, which then must exist.

    Raises
    ------
    EvenhandError
        If the data cannot be read, lack a column, or have a class that the model does not know.
    """
    reader, path = reader_of(settings.data)
    if reader.about is not ABOUT:
        if settings.map:
            raise EvenhandError(
                f"--map renames columns of your own table, but {settings.data} is read by a reader "
                "that needs no names of columns. Leave --map out."
            )
        cohort = with_decoding(reader.open(path, settings), settings)
        pairs = _pairs(cohort.table, "sample_id", settings)
        return NewData(_with_classes(cohort, settings.data, classes), None, pairs)
    table = _Table(_renamed_columns(settings), settings, classes, label_named)
    cohort = open_table(path, settings, table.edit, table.renamed)
    cohort = with_decoding(cohort, settings)
    return NewData(_with_classes(cohort, settings.data, classes), table.unlabelled, table.pairs)


@dataclass
class _Table:
    """Edits the user's table while it is read; ``unlabelled`` and ``pairs`` are set by the edit."""

    renamed: Mapping[str, str]
    settings: PredictSettings
    classes: tuple[str, ...]
    label_named: bool
    unlabelled: str | None = None
    pairs: Mapping[str, str] | None = None

    def edit(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the run's column names, and placeholder labels if it has none."""
        path, label = Path(reader_of(self.settings.data)[1]), self.settings.label
        file_columns = list(map(str, table))
        table = rename_columns(table, self.renamed, path)
        self._require_columns(table, path, file_columns)
        sample = self.settings.image_column or self.settings.series_column or ""
        self.pairs = _pairs(table, sample, self.settings)
        if label is None or self.label_named or (label in table and table[label].notna().any()):
            return table
        problem = f"is blank in all rows of {path}" if label in table else f"is not in {path}"
        self.unlabelled = (
            f"The label {label!r} {problem}: samples are scored, and nothing is measured. --label "
            "or --map label= names the column of labels."
        )
        # placeholder labels contain every class, so that classes are read in the model's order
        return table.assign(**{label: np.resize(np.array(self.classes, object), len(table))})

    def _require_columns(self, table: pd.DataFrame, path: Path, file_columns: list[str]) -> None:
        absent = [name for name in _needed_columns(self.settings) if name not in table]
        if absent:
            attributes = set(absent) & set(_attribute_columns(self.settings))
            others = ", or name other attributes with --attribute" if attributes else ""
            raise EvenhandError(
                f"{path} has no column {first_few(absent)}, which the model's run names; it has: "
                f"{', '.join(file_columns)}. Name the column that is meant, as in --map "
                f"{absent[0]}=COLUMN{others}."
            )


def _pairs(table: pd.DataFrame, sample: str, settings: PredictSettings) -> dict[str, str] | None:
    """Return the pair id of each sample id; None without a column of pair ids."""
    name = settings.pair_column
    if name is None:
        return None
    if name not in table:
        raise EvenhandError(
            f"{settings.data} has no column {name!r}, which --pair-column names; it has: "
            f"{', '.join(map(str, table))}."
        )
    pairs = table[name].astype("str").where(table[name].notna(), "")
    refuse_no_pairs(pairs, name, settings.data)
    return dict(zip(table[sample].astype("str"), pairs, strict=True))


def _needed_columns(settings: PredictSettings) -> list[str]:
    """Return the columns that scoring needs; that of labels is not among them."""
    columns = (settings.patient, settings.image_column, settings.series_column)
    return list(dict.fromkeys([*filter(None, columns), *_attribute_columns(settings)]))


def _attribute_columns(settings: PredictSettings) -> list[str]:
    """Return the columns of attributes; an intersection has one for each of its parts."""
    return [part for name in settings.attribute for part in name.split("*")]


def _renamed_columns(settings: PredictSettings) -> dict[str, str]:
    """Return the column of the new file for each name of the run that ``--map`` gives."""
    roles = {"label": settings.label, "patient_id": settings.patient}
    names = dict.fromkeys([*roles, *filter(None, [settings.label]), *_needed_columns(settings)])

    def run_name(name: str) -> str:
        pick("--map name", name, names)
        return roles.get(name) or name

    return parse_map(settings.map, run_name, "sex=gender")


def _with_classes(cohort: Cohort, data: str, classes: tuple[str, ...]) -> Cohort:
    """Return a cohort with the model's classes, of which some may not occur."""
    foreign = [name for name in cohort.classes if name not in classes]
    if foreign:
        raise EvenhandError(
            f"{data} has the classes {', '.join(cohort.classes)}; the model has the classes "
            f"{', '.join(classes)}, and not {first_few(foreign)}. Give the same --label as in the "
            "model's run; in your own table, use the model's class names in the label column."
        )
    numbers = np.array([classes.index(name) for name in cohort.classes], np.int64)
    table = cohort.table.assign(label=numbers[cohort.labels])
    return replace(cohort, table=table, classes=classes)
