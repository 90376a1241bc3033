"""Label conventions: named rules that turn the values of a data set into classes.

Published work labels the same data in different ways. Each convention has a name for ``--label``;
a run records the name and its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

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
    """A convention that gives each sample its class.

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
