"""CSV files from other programs: encoding, separator, header, and rows of the wrong length."""

from __future__ import annotations

import csv
import gzip
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError
from evenhand.tables.spelling import clean
from evenhand.tables.table_checks import refuse_doubled, rows_text

_BLOCK = 2**20
_LEADING = 50  # lines above the header, at most
_NUMBER = r"([+-]?\d*([,.]\d+)?([eE][+-]?\d+)?)?"  # with a comma or a point; or nothing
_BOMS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "packed by gzip",
    b"PAR1": "a parquet file",
}
_LONGEST = 2**30  # characters of a cell; the csv module stops at 2**17 by default
_OTHER_TEXTS = {
    r"<!doctype html|<html|<head|<body|<table": "a web page (HTML)",
    r"<\?xml|<\w+[^,;\t]*>$": "XML",
    r"[\[{]\s*($|[\[{]|\"[^\"]*\"\s*:)": "JSON",
    r"%pdf-": "a PDF",
    r"\{\\rtf": "a document (RTF)",
    r"version https://git-lfs\.": "a Git LFS pointer (the file itself is not downloaded)",
}
"""What other texts begin with, in lower case."""
_SEPARATORS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


@dataclass(frozen=True)
class CsvText:
    """The text of a CSV file.

    Attributes
    ----------
    path
        The file, which may be packed (``.gz``).
    encoding
        Its encoding.
    separator
        What parts its columns.
    above
        Lines above its header: blank ones, comments, ``sep=;``.
    """

    path: Path
    encoding: str
    separator: str
    above: int

    def lines(self) -> IO[str]:
        """Open the file as text, from its first line."""
        return _open_text(self.path, self.encoding)

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes of the file, as UTF-8."""
        if self.encoding.startswith("utf-8"):
            with _opener(self.path)(self.path, "rb") as file:
                while block := file.read(_BLOCK):
                    yield block
        else:
            with self.lines() as text:
                while part := text.read(_BLOCK):
                    yield part.encode()


def read_csv(path: Path, ids: Iterable[str] = ()) -> pd.DataFrame:
    """Read a CSV as text; its index is the row as a spreadsheet counts it.

    It is UTF-8, or UTF-16 with its byte order mark. Lines above the header that are blank, begin
    with ``#`` or say ``sep=;`` are passed over.

    Parameters
    ----------
    ids
        Columns of ids, in which no comma becomes a point.

    Raises
    ------
    EvenhandError
        If the file is in another encoding, holds a NUL byte, leaves a quotation mark open, or has
        rows that are shorter than the header; the message names the row.
    ValueError
        If the file is empty, or pandas cannot parse it.
    """
    text = _look_at(path)
    try:
        table = _parsed(text)
        _check_rows(text, table.shape)
    except UnicodeDecodeError as error:
        raise _other_encoding(path) from error
    names = _named([clean(str(name)) for name in table.iloc[0].fillna("")])
    refuse_doubled(names, path)
    table = table.iloc[1:].set_axis(pd.Index(names), axis=1)
    table.index = pd.RangeIndex(text.above + 2, text.above + 2 + len(table))
    if text.separator != ";":
        return table
    for name in set(names) - {*ids}:
        table[name] = _decimal_points(table[name])
    return table


def _look_at(path: Path) -> CsvText:
    """Detect encoding, separator and header of a file."""
    with _opener(path)(path, "rb") as file:
        start = file.read(4096)
    bom = next((mark for mark in _BOMS if start.startswith(mark)), None)
    encoding = _BOMS[bom] if bom else _without_bom(start)
    try:
        with _open_text(path, encoding) as lines:
            first = [line.rstrip("\r\n") for line, _ in zip(lines, range(_LEADING), strict=False)]
    except UnicodeDecodeError as error:
        raise _other_encoding(path) from error
    _refuse_other_text(path, first)
    separator, above = _header(first)
    return CsvText(path, encoding, separator, above)


def _refuse_other_text(path: Path, lines: list[str]) -> None:
    """Refuse a text of another kind, which somebody has named .csv."""
    start = next((line.strip("\ufeff ") for line in lines if line.strip("\ufeff ")), "").casefold()
    kind = next((kind for begin, kind in _OTHER_TEXTS.items() if re.match(begin, start)), None)
    if kind:
        raise EvenhandError(
            f"{path} is {kind}, no CSV, whatever its name says. Download it again, or save the "
            "table as CSV."
        )


def _without_bom(start: bytes) -> str:
    """Tell UTF-16 without a mark from UTF-8, by the zeros in every second place."""
    places = [place for place, byte in enumerate(start[:64]) if byte == 0]
    if len(places) < 16:
        return "utf-8"
    return "utf-16-be" if all(place % 2 == 0 for place in places) else "utf-16-le"


def _header(lines: list[str]) -> tuple[str, int]:
    """Return the separator, and how many lines are above the header."""
    declared = None
    for above, line in enumerate(lines):
        bare = re.sub(r'"[^"]*"', "", line)
        separator = declared or max(_SEPARATORS, key=bare.count)
        if above == 0 and (match := _SEP.fullmatch(line.strip("\ufeff "))):
            declared = match[1]
        elif not line.strip(f" {separator}") or _is_comment(line, lines[above + 1 :], separator):
            continue
        else:
            return separator, above
    raise ValueError("it is empty")


def _is_comment(line: str, below: list[str], separator: str) -> bool:
    """Tell a comment from a header that begins with "#": that has the cells of the next row."""
    if not line.startswith("#"):
        return False
    rows = (other for other in below if other.strip() and not other.startswith("#"))
    row = next(rows, None)
    parts = max(_SEPARATORS, key=row.count) if row else separator
    return row is None or row.count(parts) != line.count(parts)


def _parsed(text: CsvText) -> pd.DataFrame:
    try:
        return pd.read_csv(
            text.path,
            sep=text.separator,
            header=None,  # pandas would rename a column that comes twice
            dtype="str",
            encoding=text.encoding,
            keep_default_na=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            skiprows=text.above,
        )
    except pd.errors.ParserError as error:
        _refuse_nul(text)
        if match := re.search(r"EOF inside string starting at row (\d+)", str(error)):
            raise EvenhandError(
                f"{text.path}, row {int(match[1]) + 1 + text.above}: a quotation mark opens there "
                'and none closes it. Close it, or take it out (within quotes, write "" for one).'
            ) from error
        if "Expected" in str(error):
            _refuse_long(text)
        raise


def _refuse_long(text: CsvText) -> None:
    """Refuse rows with more cells than the header."""
    with _rows(text) as cells:
        rows = [(number, len(row)) for number, row in enumerate(cells, start=1)][text.above :]
    columns = rows[0][1]
    long = {number: count for number, count in rows if count > columns}
    if long:
        number, count = next(iter(long.items()))
        raise EvenhandError(
            f"{text.path}, {rows_text([*long])}: more cells than the {columns} columns of the "
            f"header (row {number} has {count}). Put a cell that holds "
            f"{text.separator!r} between quotation marks, or name all columns in the header."
        )


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


def refuse_short(path: Path, separator: str, shape: tuple[int, int]) -> None:
    """Refuse rows of a UTF-8 CSV that have fewer cells than the header.

    Parameters
    ----------
    shape
        Rows, with the header, and columns of what pandas has read, which fills such rows up with
        blanks.

    Raises
    ------
    EvenhandError
        If there are such rows, a NUL byte, or a quotation mark that encloses several rows.
    """
    _check_rows(CsvText(path, "utf-8-sig", separator, 0), shape)


def _check_rows(text: CsvText, shape: tuple[int, int]) -> None:
    """Refuse rows that have fewer cells than the header.

    Rows with more cells are refused by pandas, so that the number of all separators tells whether
    there are shorter ones, unless a cell is quoted. Only then each row is looked at.
    """
    rows, columns = shape
    separators, quoted, zero = 0, False, False
    for block in text.blocks():
        cells = np.frombuffer(block, np.uint8)
        separators += int(np.count_nonzero(cells == ord(text.separator)))
        quoted, zero = quoted or b'"' in block, zero or b"\0" in block
    if zero:
        _refuse_nul(text)
    if quoted or text.above or separators != rows * (columns - 1):
        _refuse_uneven(text, columns)


@contextmanager
def _rows(text: CsvText) -> Iterator[Iterator[list[str]]]:
    """Yield the rows of a file, from its first line; cells may be of any length."""
    usual = csv.field_size_limit(_LONGEST)
    try:
        with text.lines() as lines:
            yield csv.reader(lines, delimiter=text.separator, skipinitialspace=True)
    finally:
        csv.field_size_limit(usual)


def _refuse_uneven(text: CsvText, columns: int) -> None:
    short: list[int] = []
    comments: list[int] = []
    with _rows(text) as cells:
        for number, row in enumerate(cells, start=1):
            if number <= text.above:
                continue
            if any(_swallows(cell, text.separator, columns) for cell in row):
                raise EvenhandError(
                    f"{text.path}, row {number}: a quotation mark opens there and closes only in a "
                    "later row, so that whole rows are in one cell. Close it, or take it out."
                )
            if len(row) < columns and any(map(str.strip, row)):
                (comments if row[0].startswith("#") else short).append(number)
    if short:
        raise EvenhandError(
            f"{text.path}, {rows_text(short)}: fewer cells than the {columns} columns of the "
            "header. Is the file cut off? Fill the cells in, or take the rows out."
        )
    if comments:
        raise EvenhandError(
            f"{text.path}, {rows_text(comments)}: a comment among the rows. Move it above the "
            "header, or take it out."
        )


def _swallows(cell: str, separator: str, columns: int) -> bool:
    """Tell whether a cell holds whole rows: as many separators as its lines would have."""
    breaks = cell.count("\n")
    return bool(breaks) and columns > 1 and cell.count(separator) == breaks * (columns - 1)


def _refuse_nul(text: CsvText) -> None:
    row = 1
    for block in text.blocks():
        if (place := block.find(b"\0")) >= 0:
            raise EvenhandError(
                f"{text.path}, row {row + block[:place].count(10)}: it holds a NUL byte, which "
                "belongs to no text. Is the file damaged, or another kind of file? Write it again, "
                "or take the byte out."
            )
        row += block.count(b"\n")


def _other_encoding(path: Path) -> EvenhandError:
    """Return the error of a file that is not UTF-8."""
    with _opener(path)(path, "rb") as file:
        content = file.read()
    if kind := next((kind for mark, kind in _OTHER_KINDS.items() if content.startswith(mark)), ""):
        return EvenhandError(
            f"{path} is {kind}, not a text, whatever its name says. Unpack it or save it as CSV, "
            "or give the file its right name."
        )
    where = ""
    if content.startswith(tuple(mark for mark, name in _BOMS.items() if name != "utf-8-sig")):
        return EvenhandError(f"{path} is UTF-16 or UTF-32, and cut off. Write it again.")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        row, byte = content[: error.start].count(b"\n") + 1, content[error.start]
        where = f", row {row}: the byte 0x{byte:02x} is not UTF-8"
    name = shlex.quote(path.name)
    return EvenhandError(
        f"{path}{where}: the file is in another encoding, most likely Windows-1252 or Latin-1. "
        'Save it as "CSV UTF-8" in the spreadsheet, or convert it: '
        f"iconv -f WINDOWS-1252 -t UTF-8 {name} > utf8.csv"
    )


def _open_text(path: Path, encoding: str) -> IO[str]:
    return cast("IO[str]", _opener(path)(path, "rt", encoding=encoding, newline=""))


def _opener(path: Path) -> Any:
    return gzip.open if path.suffix.lower() == ".gz" else open
