"""The data that a finished model is applied to: other columns, fewer classes, maybe no labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.audit.settings import PredictSettings
from evenhand.cohort.cohort import Cohort
from evenhand.cohort.readers import decoded_as_set, reader_of
from evenhand.cohort.readers.table import ABOUT, edited_cohort
from evenhand.columns import rename_columns
from evenhand.errors import EvenhandError, pick, some


@dataclass(frozen=True, eq=False)
class NewData:
    """A cohort whose labels are those of the model's classes.

    Attributes
    ----------
    cohort
        All of its samples, none of them read yet.
    unlabelled
        Why nothing can be measured: in words; None where there are labels. Then those of the
        cohort mean nothing.
    """

    cohort: Cohort
    unlabelled: str | None


def open_new_data(
    settings: PredictSettings, classes: tuple[str, ...], *, label_named: bool
) -> NewData:
    """Open the data that a model of some classes is applied to.

    Parameters
    ----------
    settings
        Complete: label, columns and attributes are those that are looked for.
    classes
        Of the model.
    label_named
        Whether the user has named the label, which has to be there then.

    Raises
    ------
    EvenhandError
        The data cannot be read, a mapped column is not there, or a class is none of the model's.
    """
    found, path = reader_of(settings.data)
    if found.about is not ABOUT:
        if settings.map:
            raise EvenhandError(
                f"--map is for tables of your own; {settings.data} has the columns it has."
            )
        cohort = decoded_as_set(found.open(path, settings), settings)
        return NewData(_with_classes(cohort, settings.data, classes), None)
    table = _Table(_renamed(settings), settings, classes, label_named)
    cohort = edited_cohort(path, settings, table.edit, table.renamed)
    cohort = decoded_as_set(cohort, settings)
    return NewData(_with_classes(cohort, settings.data, classes), table.unlabelled)


@dataclass
class _Table:
    """A table of one's own, as it is read."""

    renamed: Mapping[str, str]
    settings: PredictSettings
    classes: tuple[str, ...]
    label_named: bool
    unlabelled: str | None = None

    def edit(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table under the names of the run, whose labels are made up where it has none."""
        path, label = Path(reader_of(self.settings.data)[1]), self.settings.label
        table = rename_columns(table, self.renamed, path)
        if label is None or self.label_named or (label in table and table[label].notna().any()):
            return table
        lacks = f"is blank in all rows of {path}" if label in table else f"is not in {path}"
        self.unlabelled = (
            f"The label {label!r} {lacks}: samples are scored, and nothing is measured. --label or "
            "--map label= names the column of labels."
        )
        # Every class, so that they are read in the order of the model's.
        return table.assign(**{label: np.resize(np.array(self.classes, object), len(table))})


def _renamed(settings: PredictSettings) -> dict[str, str]:
    """Return the column in the file of each name of the run's that the user maps."""
    roles = {"label": settings.label, "patient_id": settings.patient}
    own = [settings.label, settings.patient, settings.image_column, settings.series_column]
    parts = [part for name in settings.attribute for part in name.split("*")]
    known = dict.fromkeys([*roles, *(name for name in own if name), *parts])
    renamed: dict[str, str] = {}
    for text in settings.map:
        name, equals, column = text.partition("=")
        if not equals:
            raise EvenhandError(f"--map {text!r}: it is written NAME=COLUMN, as in sex=gender.")
        pick("--map name", name, known)
        renamed[roles.get(name) or name] = column
    return renamed


def _with_classes(cohort: Cohort, data: str, classes: tuple[str, ...]) -> Cohort:
    """Return a cohort with the model's classes, of which it may lack some."""
    strange = [name for name in cohort.classes if name not in classes]
    if strange:
        raise EvenhandError(
            f"{data} has the classes {', '.join(cohort.classes)}; the model tells "
            f"{', '.join(classes)} apart, and not {some(strange)}. Name the same --label as in its "
            "run; in a table, the label column has to hold these words."
        )
    numbers = np.array([classes.index(name) for name in cohort.classes], np.int64)
    table = cohort.table.assign(label=numbers[cohort.labels])
    return replace(cohort, table=table, classes=classes)
