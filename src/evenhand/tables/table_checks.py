"""Checks of a table: missing columns, blank cells, duplicates, ids that identify nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from evenhand.errors import EvenhandError, first_few

_SHORTENED = r"[+-]?\d([.,]\d+)?[eE]\+\d+"
_NOBODY = (
    r"unknown|unk|none|null|nan|nat|n/?a|missing|undefined|anonym(ous|i[sz]ed)|anon|tbd|x+|[-?*._]+"
    r"|-1|-9+"
)


def require_columns(table: pd.DataFrame, path: Path, columns: Iterable[str]) -> None:
    """Refuse a table that lacks one of the columns; the message names all that it lacks."""
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise EvenhandError(
            f"{path} has no column {', '.join(map(repr, absent))}; it has: "
            f"{', '.join(map(str, table.columns))}."
        )


def refuse_rows(bad: pd.Series, path: Path, problem: str) -> None:
    """Raise an error if any rows of a table are marked.

    Parameters
    ----------
    bad
        Whether a row is marked; the index is the row as ``read_table`` counts it.
    path
        The table.
    problem
        What is wrong with these rows, and what to do about it.

    Raises
    ------
    EvenhandError
        If at least one row is marked; the message names the first few.
    """
    rows = bad.index[bad.to_numpy(bool)]
    if len(rows):
        raise EvenhandError(f"{path}, {rows_text(rows)}: {problem}")


def refuse_doubled(names: Sequence[str], path: Path) -> None:
    """Refuse a table with two columns of the same name."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise EvenhandError(f"{path} has the column {first_few(repeated)} twice; keep one.")


def refuse_blank(table: pd.DataFrame, path: Path, columns: Iterable[str]) -> None:
    """Refuse rows of a table that are blank in one of the columns."""
    for column in columns:
        problem = f"the column {column!r} is blank. Fill it in, or take the rows out."
        refuse_rows(table[column].isna(), path, problem)


def refuse_repeated(table: pd.DataFrame, path: Path, column: str) -> None:
    """Refuse rows of a table that repeat a value of a column."""
    repeated = table[column].duplicated()
    values = first_few(table[column][repeated].unique())
    problem = f"{values}: already named above in {column!r}. Keep one row of each."
    refuse_rows(repeated, path, problem)


def refuse_ids(ids: pd.Series, path: Path, whose: str) -> None:
    """Refuse rows whose id identifies nobody: a placeholder, or a shortened number.

    Parameters
    ----------
    ids
        The ids, as text, indexed by the row.
    whose
        The kind of id, such as "patient".

    Raises
    ------
    EvenhandError
        If several rows have one placeholder such as "unknown" or "-1", or an id is a number that a
        spreadsheet has shortened, such as 1.23457E+11.
    """
    short = ids.str.fullmatch(_SHORTENED).fillna(False)
    refuse_rows(
        short,
        path,
        f"the {whose} id {first_few(ids[short].unique())} is a number that a spreadsheet has "
        "shortened; different ids may have become equal. Write the column as text or whole "
        "numbers.",
    )
    nobody = ids.str.casefold().str.fullmatch(_NOBODY).fillna(False)
    if nobody.any():
        nobody &= ids.duplicated(keep=False)
    refuse_rows(
        nobody,
        path,
        f"the {whose} id is {first_few(ids[nobody].unique())}, which would put all these rows into "
        f"one {whose}. Give each row its own id (a new one if it is unknown), or remove the rows.",
    )


def rows_text(rows: Sequence[int] | pd.Index) -> str:
    """Return text that names a few rows, and the number of further ones.

    Examples
    --------
    >>> rows_text([2])
    'row 2'
    >>> rows_text(range(2, 9))
    'rows 2, 3, 4, 5, 6 and 2 more'
    """
    return f"row{'s' if len(rows) > 1 else ''} {first_few(rows)}"
