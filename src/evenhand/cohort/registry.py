"""The description of a data set, its label conventions, and the registry of readers.

Published work labels the same data in different ways. Each convention has a name for ``--label``;
a run records the name and its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError
from evenhand.registry import Registry
from evenhand.tables.attributes import Attribute
from evenhand.tables.reading import plain_cell
from evenhand.tables.table_checks import refuse_blank, refuse_rows

CHEST_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)

NO_REPORT = "no report"
"""The value for studies without labels in the tables of chest X-rays."""

Classify = Callable[[pd.DataFrame, Path], tuple[pd.Series, tuple[str, ...]]]
"""Returns each row's class (missing if the row is left out) and the classes, given a table and its
path."""


@dataclass(frozen=True)
class Label:
    """A rule that gives each sample its class.

    Parameters
    ----------
    column
        The column that it reads.
    meaning
        Text that says which values belong to which class.
    classify
        Function that applies the convention.
    split
        The column of the split that is published with the labels; None if there is none.
    """

    column: str
    meaning: str
    classify: Classify
    split: str | None = None


def by_value(
    column: str,
    classes: Mapping[str, tuple[str, ...]],
    left_out: tuple[str, ...] = (),
    split: str | None = None,
) -> Label:
    """Return a label from the values of each class.

    Parameters
    ----------
    column
        The column of values. Capitals are ignored; "1.0" equals "1".
    classes
        The values of each class, in the order of classes; "" is a blank cell.
    left_out
        Values whose samples are left out. Any other value is refused, with its rows.
    split
        The column of the split that is published with this label.

    Examples
    --------
    >>> cdr = by_value("CDR", {"healthy": ("0",), "dementia": ("0.5", "1")}, left_out=("",))
    >>> cdr.meaning
    'healthy = CDR 0; dementia = CDR 0.5, 1; left out = CDR blank'
    >>> cdr.classify(pd.DataFrame({"CDR": ["0.0", "0.5", None]}), Path("t.csv"))[0].tolist()
    ['healthy', 'dementia', nan]
    """
    class_of = {plain_cell(value): name for name, values in classes.items() for value in values}
    accepted = {*class_of, *map(plain_cell, left_out)}

    def classify(table: pd.DataFrame, path: Path) -> tuple[pd.Series, tuple[str, ...]]:
        raw = table[column]
        value = raw.map({text: plain_cell(text) for text in raw.dropna().unique()}).fillna("")
        if "" not in accepted:
            refuse_blank(table, path, (column,))
        problem = (
            f"{column!r} has a value that belongs to no class; allowed are: {_listed(accepted)}."
        )
        refuse_rows(~value.isin(accepted), path, problem)
        return value.map(class_of), tuple(classes)

    parts = {**classes, **({"left out": left_out} if left_out else {})}
    meaning = "; ".join(f"{name} = {column} {_listed(values)}" for name, values in parts.items())
    return Label(column, meaning, classify, split)


def each_value(column: str) -> Label:
    """Return a label whose classes are the values that occur, sorted."""

    def classify(table: pd.DataFrame, path: Path) -> tuple[pd.Series, tuple[str, ...]]:
        refuse_blank(table, path, (column,))
        return table[column], tuple(sorted(table[column].unique()))

    return Label(column, f"each {column} is a class", classify)


def chest_labels() -> dict[str, Label]:
    """Return the labels of chest X-ray reports: columns of 1, 0, -1 (uncertain), blank (not named).

    Class 1 of ``no-finding`` means healthy, as in published work; class 1 of ``any-finding`` means
    sick. For each finding, ``NAME:zeros`` counts uncertain values as absent, ``NAME:ones`` counts
    them as present, and ``NAME:ignore`` leaves them out (Irvin et al. 2019, arXiv 1901.07031). A
    finding that the report does not name is absent. An image without a report is left out.

    Examples
    --------
    >>> list(chest_labels())[:5]  # doctest: +NORMALIZE_WHITESPACE
    ['no-finding', 'any-finding',
     'atelectasis:zeros', 'atelectasis:ones', 'atelectasis:ignore']
    """
    sick, healthy, none = ("0", "", "-1"), ("1",), (NO_REPORT,)
    return {
        "no-finding": by_value("No Finding", {"finding": sick, "no finding": healthy}, none),
        "any-finding": by_value("No Finding", {"no finding": healthy, "finding": sick}, none),
        **{
            f"{column.lower().replace(' ', '-')}:{policy}": by_value(
                column, classes, (*none, *left_out)
            )
            for column in CHEST_FINDINGS
            for policy, classes, left_out in (
                ("zeros", {"absent": ("0", "", "-1"), "present": ("1",)}, ()),
                ("ones", {"absent": ("0", ""), "present": ("1", "-1")}, ()),
                ("ignore", {"absent": ("0", ""), "present": ("1",)}, ("-1",)),
            )
        },
    }


def _listed(values: Mapping[str, object] | set[str] | tuple[str, ...]) -> str:
    shown = values if isinstance(values, tuple) else sorted(values)
    return ", ".join(value or "blank" for value in shown)


Open = Callable[[str, DataSettings], Cohort]
"""Returns a cohort, given the text after ``reader:`` in DATA and the settings."""


@dataclass(frozen=True)
class LayoutEntry:
    """A file or folder of a data set's layout.

    Parameters
    ----------
    name
        The path below the root; ``*`` and ``**`` are wildcards.
    what
        The content, in words.
    required
        Whether the data set cannot be read without it.
    other
        An alternative path, in copies with another layout; "" without one.
    columns
        The columns that attributes read from it, if it is not required.
    """

    name: str
    what: str
    required: bool = True
    other: str = ""
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The paths that the entry may have."""
        return (self.name, self.other) if self.other else (self.name,)

    def __str__(self) -> str:
        return " or ".join(self.names)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The description of the data of a reader, as `evenhand datasets` shows it.

    Parameters
    ----------
    title, task, modality, licence, access
        Texts; ``access`` says where to get the data, and on which terms.
    layout
        The files and folders below the root.
    unit
        What ``patient_id`` identifies: "patient", "lesion", "stay", "image".
    labels
        Name → convention for the label; the first one is the default.
    attributes
        The rules for attributes with fixed levels.
    open_attributes
        Name → column, for attributes whose levels are the values that occur.
    slices
        The default number of slices of each volume; 0 if there are no volumes.
    window
        Centre and width of the intensity window of images; None without one.
    needs
        Modules of the extra ``readers`` that the reader needs.
    caution
        A sentence on when the data mislead.
    yours
        For readers of the user's own data: heading (``labels`` …) → how the user gives it.
    """

    title: str
    task: str
    modality: str
    licence: str
    access: str
    layout: tuple[LayoutEntry, ...] = ()
    unit: str = "patient"
    labels: Mapping[str, Label] = field(default_factory=dict)
    attributes: tuple[Attribute, ...] = ()
    open_attributes: Mapping[str, str] = field(default_factory=dict)
    slices: int = 0
    window: tuple[float, float] | None = None
    needs: tuple[str, ...] = ()
    caution: str = ""
    yours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """The description of a data set, and the function that opens it."""

    name: str
    about: DataSet
    open: Open


READERS: Registry[Reader] = Registry("reader", "cohort/readers", ("register_reader", "published"))
"""Name → reader."""


def register_reader(name: str, about: DataSet) -> Callable[[Open], Open]:
    """Register the decorated function as the reader ``name``, with which DATA begins.

    The function must check its whole input, name file and row in its errors, and read no sample.
    For published data sets use ``evenhand.cohort.published.published``, which does the common work.
    """

    def register(function: Open) -> Open:
        reader = Reader(name, about, function)
        READERS.add(name, reader, module=function.__module__, title=about.title)
        return function

    return register


LONG_TABLE = ("series_table", "series_step", "series_steps", "series_variable")
"""The settings of a long table of series."""

SERIES = ("series_column", *LONG_TABLE, "static")
"""The settings of series in a user's own table, and of static variables."""


def refuse_settings(name: str, settings: DataSettings, unused: tuple[str, ...]) -> None:
    """Refuse settings in ``unused``, which do not apply to a reader.

    Raises
    ------
    EvenhandError
        If one of these settings has a value.
    """
    flags = [f"--{field.replace('_', '-')}" for field in unused if getattr(settings, field)]
    if flags:
        raise EvenhandError(
            f"{' and '.join(flags)} cannot be given with {name}: these data define it themselves "
            "or do not use it. Leave it out."
        )
