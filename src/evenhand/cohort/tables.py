"""Tables that a user hands in: read as text, refused with file and row."""

from __future__ import annotations

import csv
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from evenhand.cohort.refusals import (
    refuse_doubled,
    refuse_repeated,
    refuse_rows,
    require_columns,
    rows_text,
)
from evenhand.errors import EvenhandError, import_extra

BLANK = (
    *("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "null", "NULL"),
    *("NaN", "nan", "-NaN", "-nan"),
)
_BLOCK = 2**20
_NUMBER = r"([+-]?\d*([,.]\d+)?([eE][+-]?\d+)?)?"  # with a comma or a point; or nothing


def read_table(path: Path, like: str | None = None) -> pd.DataFrame:
    """Read a table as text.

    Parameters
    ----------
    path
        A file whose name ends in ``.csv``, ``.csv.gz``, ``.parquet`` or ``.xlsx`` (its first
        sheet). A CSV is UTF-8, with or without a byte order mark, and has commas between its
        columns, or semicolons, or tabs; where it has semicolons, a decimal may be a comma.
    like
        Which of these it is, where its name does not say so.

    Returns
    -------
    pandas.DataFrame
        Every column as text without blanks around it, missing where a cell is blank, "NA", "NaN"
        or "null". The index is the row as a spreadsheet counts it: the header is row 1. Rows
        without any value are left out.

    Raises
    ------
    EvenhandError
        The file is absent, of another kind, damaged, or without rows; a column of a CSV or parquet
        comes twice; or a row of a CSV has fewer cells than the header.
    """
    name = like or path.name.lower()
    kinds = [read for suffix, read in _KINDS.items() if name.endswith(suffix)]
    if not kinds:
        raise EvenhandError(f"{path} is no table: its name must end in {_one_of(_KINDS)}.")
    if not path.is_file():
        raise EvenhandError(f"there is no table {path}.")
    try:
        table = kinds[0](path)
    except _DAMAGED as error:
        raise EvenhandError(f"{path} cannot be read as a table: {error}") from error
    refuse_doubled([str(name) for name in table.columns], path)
    text = pd.DataFrame({name: _stripped(column) for name, column in table.items()}, table.index)
    text = text.set_axis(pd.RangeIndex(2, len(text) + 2)).dropna(how="all")
    _refuse_no_rows(text, path)
    return text


def look_up(
    table: pd.DataFrame, key: str, other: pd.DataFrame, path: Path, columns: Iterable[str]
) -> pd.DataFrame:
    """Return a table with columns of another one, found by a key that both have.

    Parameters
    ----------
    table, key
        The table, and the column that says which row of the other is meant.
    other, path
        The other table, and where it lies. It has one row per key, or several that say the same.
    columns
        What is taken from it; missing where it has no such row.

    Raises
    ------
    EvenhandError
        The other table lacks a column, or has two rows of one key that differ.
    """
    wanted = list(columns)
    require_columns(other, path, (key, *wanted))
    other = other.drop_duplicates([key, *wanted])
    refuse_repeated(other, path, key)
    kept = table.drop(columns=wanted, errors="ignore")
    return kept.join(other.set_index(key)[wanted], on=key)


def read_columns(
    path: Path, types: Mapping[str, str], also: re.Pattern[str] | None = None
) -> pd.DataFrame:
    """Read some columns of a large CSV, as text or as numbers.

    Parameters
    ----------
    path
        The file.
    types
        The columns that are needed, with pandas' names of their types.
    also
        The names of more columns, which hold numbers (float32; missing where a cell is blank).

    Returns
    -------
    pandas.DataFrame
        The index is the row as a spreadsheet counts it.

    Raises
    ------
    EvenhandError
        The file is absent, damaged, or without rows; it lacks a column, a row has fewer cells than
        the header, or a cell is no number; the message names column and row.
    """
    if not path.is_file():
        raise EvenhandError(f"there is no table {path}.")
    try:
        header = pd.read_csv(path, nrows=0)
        require_columns(header, path, types)
        more = [name for name in header.columns if also is not None and also.fullmatch(name)]
        wanted = {**types, **dict.fromkeys(more, "float32")}
        table = pd.read_csv(path, usecols=list(wanted), dtype=wanted)
        _refuse_short(path, ",", (len(table) + 1, header.shape[1]))
    except _DAMAGED as error:
        _refuse_text(path, types, also)
        raise EvenhandError(f"{path} cannot be read as a table: {error}") from error
    _refuse_no_rows(table, path)
    return table.set_axis(pd.RangeIndex(2, len(table) + 2))


def stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return several tables as one, whose index has their name and the row: ``od.csv:3``."""
    return pd.concat(
        [table.set_axis([f"{name}:{row}" for row in table.index]) for name, table in tables.items()]
    )


def plain(value: str) -> str:
    """Write a cell the one way, whatever its case, and "1.0" as "1".

    Examples
    --------
    >>> plain("Male"), plain("-1.00"), plain("0.50")
    ('male', '-1', '0.50')
    """
    head, dot, tail = value.partition(".")
    return (head if dot and not tail.strip("0") and head else value).casefold()


def _stripped(column: pd.Series) -> pd.Series:
    """Return text without blanks around it, missing where nothing is said.

    Column by column: what pandas does to a whole frame of text makes an object of each cell.
    """
    text = column.str.strip()
    return text.mask(text.isin(BLANK))


def _csv(path: Path) -> pd.DataFrame:
    with _opener(path)(path, "rt", encoding="utf-8-sig") as lines:
        first = re.sub(r'"[^"]*"', "", lines.readline())
    if not first:
        raise ValueError("it is empty")
    separator = max(",;\t", key=first.count)
    table = pd.read_csv(
        path,
        sep=separator,
        header=None,  # pandas would rename a column that comes twice
        dtype="str",
        encoding="utf-8-sig",
        keep_default_na=False,
        skip_blank_lines=False,
        skipinitialspace=True,
    )
    _refuse_short(path, separator, table.shape)
    names = _named(table.iloc[0].str.strip().tolist())
    table = table.iloc[1:].set_axis(pd.Index(names), axis=1)
    return table.apply(_decimal_points) if separator == ";" else table


def _named(header: list[str]) -> list[str]:
    """Return the names of columns; those without one get a number, as pandas has it."""
    names = list(header)
    for place, name in enumerate(header):
        if not name:
            names[place] = f"Unnamed: {place}"
            while names[place] in header:
                names[place] += ".1"
    return names


def _decimal_points(column: pd.Series) -> pd.Series:
    """Write a column of numbers with points, unless two of its values become the same: ids."""
    if not column.str.strip().str.fullmatch(_NUMBER).all():
        return column
    pointed = column.str.replace(",", ".")
    return pointed if pointed.nunique() == column.nunique() else column


def _opener(path: Path) -> Callable[..., Any]:
    return gzip.open if path.suffix.lower() == ".gz" else open


def _refuse_short(path: Path, separator: str, shape: tuple[int, int]) -> None:
    """Refuse rows that have fewer cells than the header: pandas fills them up with blanks.

    Rows with more cells are refused by pandas, so that the number of all separators tells whether
    there are shorter ones, unless a cell is quoted. Only then each row is looked at.
    """
    rows, columns = shape
    separators, quoted = 0, False
    with _opener(path)(path, "rb") as file:
        while block := file.read(_BLOCK):
            found = np.frombuffer(block, np.uint8) == ord(separator)
            separators += int(np.count_nonzero(found))
            quoted = quoted or b'"' in block
    if not quoted and separators == rows * (columns - 1):
        return
    with _opener(path)(path, "rt", encoding="utf-8-sig", newline="") as lines:
        cells = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        short = [
            number
            for number, row in enumerate(cells, start=1)
            if len(row) < columns and any(map(str.strip, row))
        ]
    if short:
        raise EvenhandError(
            f"{path}, {rows_text(short)}: fewer cells than the {columns} columns of the header. "
            "Is the file cut off? Fill the cells in, or take the rows out."
        )


def _refuse_no_rows(table: pd.DataFrame, path: Path) -> None:
    if table.empty:
        raise EvenhandError(f"{path} holds no rows below its header. Is it the right file?")


def _spreadsheet(path: Path) -> pd.DataFrame:
    import_extra("openpyxl", "readers")
    table = pd.read_excel(path, dtype=object, keep_default_na=False, na_filter=False)
    return _as_text(table.replace("", None))


def _parquet(path: Path) -> pd.DataFrame:
    return _as_text(pd.read_parquet(path))


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    columns = {
        name: column.map(_text, na_action="ignore").astype("str") for name, column in table.items()
    }
    return pd.DataFrame(columns, index=table.index)


def _text(value: object) -> str:
    """Write 3.0 as "3": a whole number beside a missing one is stored as a float."""
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    return str(value)


def _refuse_text(path: Path, types: Mapping[str, str], also: re.Pattern[str] | None) -> None:
    """Refuse the rows of a table that pandas could not read, where text stands for a number."""
    text = read_table(path)
    for name in text.columns:
        if types.get(name, "str") != "str" or (also is not None and also.fullmatch(name)):
            number = pd.to_numeric(text[name], errors="coerce")
            refuse_rows(number.isna() & text[name].notna(), path, f"{name!r} is no number.")


def _one_of(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


_KINDS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".parquet": _parquet,
    ".xlsx": _spreadsheet,
}
# What pandas, pyarrow and openpyxl raise for a damaged file; damaged XML is a SyntaxError.
_DAMAGED = (
    *(ValueError, OSError, EOFError, KeyError, NotImplementedError, SyntaxError),
    *(csv.Error, zipfile.BadZipFile, zlib.error, pa.ArrowException),
)
