"""Read CSV, parquet and xlsx tables as text; errors name file and row."""

from __future__ import annotations

import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, first_few, import_extra
from evenhand.tables.csv_text import read_csv, refuse_short
from evenhand.tables.spelling import clean, clean_column
from evenhand.tables.table_checks import (
    refuse_doubled,
    refuse_repeated,
    refuse_rows,
    require_columns,
    rows_text,
)

BLANK = (
    *("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "null", "NULL"),
    *("NaN", "nan", "-NaN", "-nan", "NAN", "Nan", "None", "NaT", "nat", "Null", "N/a"),
)


def read_table(path: Path, like: str | None = None, ids: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table as text.

    Parameters
    ----------
    path
        A file whose name ends in ``.csv``, ``.csv.gz``, ``.parquet`` or ``.xlsx`` (its first
        sheet). A CSV is UTF-8, or UTF-16 as spreadsheets write it, with commas, semicolons or tabs
        between its columns. With semicolons, numbers may have a decimal comma.
    like
        One of these endings, for a file whose name ends in another.
    ids
        Columns of ids, which are not changed: "1,003" is not a decimal number there.

    Returns
    -------
    pandas.DataFrame
        Every column as clean text (see `evenhand.tables.spelling.clean`). Cells that are blank,
        "NA", "NaN", "None", "NaT" or "null" are missing. The index is the row as a spreadsheet
        counts it: the header is row 1, unless lines are above it. Rows without values are left out.

    Raises
    ------
    EvenhandError
        If the file is absent, of another kind, damaged, or without rows; if a column of a CSV or
        parquet occurs twice; or if a row of a CSV has fewer cells than the header.
    """
    name = like or path.name.lower()
    kind = next((kind for kind in (*_CSV, *_OTHERS) if name.endswith(kind)), None)
    if kind is None:
        *ends, last = (*_CSV, *_OTHERS)
        raise EvenhandError(
            f"{path} is no table: its name must end in {', '.join(ends)} or {last}."
        )
    if not path.is_file():
        raise EvenhandError(f"there is no table {path}.")
    try:
        table = read_csv(path, ids) if kind in _CSV else _OTHERS[kind](path)
    except _DAMAGED as error:
        raise EvenhandError(f"{path} cannot be read as a table: {error}") from error
    names = [clean(str(name)) for name in table.columns]
    refuse_doubled(names, path)
    columns = {
        name: _without_blanks(table[raw]) for name, raw in zip(names, table.columns, strict=True)
    }
    text = pd.DataFrame(columns, table.index).dropna(how="all")
    _refuse_no_rows(text, path)
    return text


def look_up(
    table: pd.DataFrame, key: str, other: pd.DataFrame, path: Path, columns: Iterable[str]
) -> pd.DataFrame:
    """Return a table with more columns, which are looked up in another table by a key.

    Parameters
    ----------
    table
        The table to extend.
    key
        The column that both tables have.
    other
        The other table, with one row for each key, or several equal ones.
    path
        The path of the other table, for messages.
    columns
        The columns to copy; missing if the other table has no row with the key.

    Raises
    ------
    EvenhandError
        If the other table lacks a column, or has two different rows with the same key.
    """
    names = list(columns)
    require_columns(other, path, (key, *names))
    other = other.drop_duplicates([key, *names])
    refuse_repeated(other, path, key)
    unchanged = table.drop(columns=names, errors="ignore")
    return unchanged.join(other.set_index(key)[names], on=key)


def read_columns(
    path: Path, types: Mapping[str, str], also: re.Pattern[str] | None = None
) -> pd.DataFrame:
    """Read some columns of a large CSV, as text or as numbers.

    Parameters
    ----------
    path
        The file.
    types
        Required column → pandas' name of its type.
    also
        A pattern for the names of further columns, which are read as float32 (blank cells: NaN).

    Returns
    -------
    pandas.DataFrame
        The index is the row as a spreadsheet counts it.

    Raises
    ------
    EvenhandError
        If the file is absent, damaged, or without rows; if it lacks a column; or if a row has fewer
        cells than the header or a cell is not a number (the message names column and row).
    """
    if not path.is_file():
        raise EvenhandError(f"there is no table {path}.")
    try:
        header = pd.read_csv(path, nrows=0)
        require_columns(header, path, types)
        more = [name for name in header.columns if also is not None and also.fullmatch(name)]
        wanted = {**types, **dict.fromkeys(more, "float32")}
        table = pd.read_csv(path, usecols=list(wanted), dtype=wanted)
        refuse_short(path, ",", (len(table) + 1, header.shape[1]))
    except _DAMAGED as error:
        _refuse_text(path, types, also)
        raise EvenhandError(f"{path} cannot be read as a table: {error}") from error
    _refuse_no_rows(table, path)
    return table.set_axis(pd.RangeIndex(2, len(table) + 2))


def stack_tables(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return several tables as one; the index names table and row: ``od.csv:3``."""
    return pd.concat(
        [table.set_axis([f"{name}:{row}" for row in table.index]) for name, table in tables.items()]
    )


def plain_cell(value: str) -> str:
    """Return a cell in lower case, without a zero fraction: "1.0" becomes "1".

    Examples
    --------
    >>> plain_cell("Male"), plain_cell("-1.00"), plain_cell("0.50")
    ('male', '-1', '0.50')
    """
    head, dot, tail = value.partition(".")
    return (head if dot and not tail.strip("0") and head else value).casefold()


def read_column(column: pd.Series) -> pd.Series:
    """Return a column of any type as `read_table` returns it: clean text, blank cells missing.

    Examples
    --------
    >>> read_column(pd.Series(["m ", "", 1.0], dtype="object")).tolist()
    ['m', nan, '1']
    """
    return _without_blanks(_column_as_text(column))


def _without_blanks(column: pd.Series) -> pd.Series:
    """Return a column of text as clean text, in which blank cells are missing.

    Call it for each column: on a whole frame, pandas would convert each cell to an object.
    """
    text = clean_column(column)
    return text.mask(text.isin(BLANK))


def _refuse_no_rows(table: pd.DataFrame, path: Path) -> None:
    if table.empty:
        raise EvenhandError(f"{path} holds no rows below its header. Is it the right file?")


def _spreadsheet(path: Path) -> pd.DataFrame:
    import_extra("openpyxl", "readers")
    with (
        _damaged_inside(),
        pd.ExcelFile(path, engine="openpyxl", engine_kwargs={"read_only": False}) as book,
    ):
        if not book.book.worksheets:
            raise ValueError("it has no sheet of cells")
        _refuse_merged(path, book.book.worksheets[0])
        table = pd.read_excel(book, dtype=object, keep_default_na=False, na_filter=False)
    return _table_as_text(table.replace("", None))


def _refuse_merged(path: Path, sheet: Any) -> None:
    """Refuse merged cells, because all but the first of them are blank."""
    merged = sorted(sheet.merged_cells.ranges, key=lambda cells: (cells.min_row, cells.min_col))
    if merged:
        rows = sorted({row for cells in merged for row in range(cells.min_row, cells.max_row + 1)})
        raise EvenhandError(
            f"{path}, {rows_text(rows)}: merged cells ({first_few(merged)}); only the first of "
            "them holds a value. Unmerge them in the spreadsheet, and fill in each row."
        )


def _parquet(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:
        start = file.read(6)
    if not start.startswith(b"PAR1"):
        kind = "a Feather file (Arrow)" if start == b"ARROW1" else "something else"
        raise ValueError(f"it is no parquet file but {kind if start else 'empty'}")
    refuse_doubled(pq.read_schema(path.absolute()).names, path)
    with _damaged_inside():
        table = pd.read_parquet(path.absolute())
    if isinstance(table.index, pd.RangeIndex) and table.index.name is None:
        return _table_as_text(table)
    names = [
        name or ("index" if table.index.nlevels == 1 else f"level_{level}")
        for level, name in enumerate(table.index.names)
    ]
    index = table.index.set_names(names).to_frame(index=False)
    index = index.drop(columns=[name for name in names if name in table.columns])
    return _table_as_text(pd.concat([index, table.reset_index(drop=True)], axis=1))


@contextmanager
def _damaged_inside() -> Iterator[None]:
    """Turn the errors that libraries raise for some damaged files into a ValueError."""
    try:
        yield
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"it is damaged inside ({error})") from error


def _table_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose cells are text, indexed by the row as a spreadsheet counts it."""
    text = pd.DataFrame(
        {name: _column_as_text(column) for name, column in table.items()}, table.index
    )
    return text.set_axis(pd.RangeIndex(2, len(text) + 2))


def _column_as_text(column: pd.Series) -> pd.Series:
    """Return a column as text; missing values stay missing."""
    dtype = column.dtype
    if isinstance(dtype, pd.StringDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "iub"):
        return column.astype("str")
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        texts = _texts_of_floats(column.to_numpy())
    else:
        texts = [_cell_text(value) for value in column]
    return pd.Series(texts, column.index, dtype="str")


def _texts_of_floats(values: NDArray[np.floating[Any]]) -> list[str | None]:
    """Return numbers as `_cell_text` writes them, but faster where `str` gives the same text.

    A number of 16 or 32 bits gets only the digits that identify it in its type, as in a CSV.
    """
    numbers = values.tolist() if values.itemsize == 8 else values
    texts: list[str | None] = [str(value) for value in numbers]
    for place in np.flatnonzero(~np.isfinite(values) | (values == np.floor(values))):
        texts[place] = _cell_text(float(values[place]))
    return texts


def _cell_text(value: object) -> str | None:
    """Return a cell as text; 3.0 becomes "3", because missing cells turn whole numbers into floats.

    Numbers from 2**53 have an exponent, because floats do not store their last digits. Bytes are
    decoded as UTF-8, or written in hexadecimal digits.
    """
    if isinstance(value, float | np.floating):
        if value != value:  # NaN
            return None
        if not value.is_integer():
            return str(value)
        whole = int(value)
        return str(whole) if abs(whole) < 2**53 else f"{whole:.15e}"
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    return str(value)


def _refuse_text(path: Path, types: Mapping[str, str], also: re.Pattern[str] | None) -> None:
    """Refuse rows with text in a column of numbers, which pandas could not read."""
    text = read_table(path)
    for name in text.columns:
        if types.get(name, "str") != "str" or (also is not None and also.fullmatch(name)):
            number = pd.to_numeric(text[name], errors="coerce")
            refuse_rows(number.isna() & text[name].notna(), path, f"{name!r} is no number.")


_CSV = (".csv", ".csv.gz")
_OTHERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": _parquet,
    ".xlsx": _spreadsheet,
}
# The errors of pandas, pyarrow and openpyxl for damaged files; damaged XML is a SyntaxError.
_DAMAGED = (
    *(ValueError, OSError, EOFError, KeyError, NotImplementedError, SyntaxError),
    *(csv.Error, zipfile.BadZipFile, zlib.error, pa.ArrowException),
)
