"""Read CSV files of any program: detect encoding, separator and header; refuse uneven rows."""

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
_LEADING = 50  # the largest number of lines above the header
_NUMBER = r"([+-]?\d*([,.]\d+)?([eE][+-]?\d+)?)?"  # with a decimal comma or point; or empty
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
_LONGEST = 2**30  # characters of a cell; the csv module's default limit is 2**17
_OTHER_TEXTS = {
    r"<!doctype html|<html|<head|<body|<table": "a web page (HTML)",
    r"<\?xml|<\w+[^,;\t]*>$": "XML",
    r"[\[{]\s*($|[\[{]|\"[^\"]*\"\s*:)": "JSON",
    r"%pdf-": "a PDF",
    r"\{\\rtf": "a document (RTF)",
    r"version https://git-lfs\.": "a Git LFS pointer (the file itself is not downloaded)",
}
"""The beginning of a file, in lower case → its kind, for texts that are not CSV."""
_SEPARATORS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


@dataclass(frozen=True)
class CsvText:
    """The text of a CSV file.

    Attributes
    ----------
    path
        The file, which may be compressed (``.gz``).
    encoding
        The encoding of the file.
    separator
        The character between columns.
    above
        The number of lines above the header: blank ones, comments, ``sep=;``.
    """

    path: Path
    encoding: str
    separator: str
    above: int

    def lines(self) -> IO[str]:
        """Open the file as text, from its first line."""
        return _open_text(self.path, self.encoding)

    def blocks(self) -> Iterator[bytes]:
        """Yield the content of the file as blocks of UTF-8 bytes."""
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

    The encoding is UTF-8 or UTF-16. Lines above the header are skipped if they are blank, begin
    with ``#`` or are ``sep=;``.

    Parameters
    ----------
    ids
        Columns of ids, in which a comma is never read as a decimal point.

    Raises
    ------
    EvenhandError
        If the file is in another encoding, holds a NUL byte, leaves a quotation mark open, or has
        rows that are shorter than the header; the message names the row.
    ValueError
        If the file is empty, or pandas cannot parse it.
    """
    text = _detect_format(path)
    try:
        table = _parse(text)
        _check_rows(text, table.shape)
    except UnicodeDecodeError as error:
        raise _other_encoding(path) from error
    names = _fill_names([clean(str(name)) for name in table.iloc[0].fillna("")])
    refuse_doubled(names, path)
    table = table.iloc[1:].set_axis(pd.Index(names), axis=1)
    table.index = pd.RangeIndex(text.above + 2, text.above + 2 + len(table))
    if text.separator != ";":
        return table
    for name in set(names) - {*ids}:
        table[name] = _decimal_points(table[name])
    return table


def _detect_format(path: Path) -> CsvText:
    """Detect encoding, separator and header of a file."""
    with _opener(path)(path, "rb") as file:
        start = file.read(4096)
    bom = next((mark for mark in _BOMS if start.startswith(mark)), None)
    encoding = _BOMS[bom] if bom else _guess_encoding(start)
    try:
        with _open_text(path, encoding) as lines:
            first = [line.rstrip("\r\n") for line, _ in zip(lines, range(_LEADING), strict=False)]
    except UnicodeDecodeError as error:
        raise _other_encoding(path) from error
    _refuse_other_text(path, first)
    separator, above = _header(first)
    return CsvText(path, encoding, separator, above)


def _refuse_other_text(path: Path, lines: list[str]) -> None:
    """Refuse a file named .csv whose text is of another kind."""
    start = next((line.strip("\ufeff ") for line in lines if line.strip("\ufeff ")), "").casefold()
    kind = next((kind for begin, kind in _OTHER_TEXTS.items() if re.match(begin, start)), None)
    if kind:
        raise EvenhandError(
            f"{path} is {kind}, not a CSV, despite its name. Download it again, or save the table "
            "as CSV."
        )


def _guess_encoding(start: bytes) -> str:
    """Return the encoding of text without a byte order mark; UTF-16 has every second byte 0."""
    zeros = [index for index, byte in enumerate(start[:64]) if byte == 0]
    if len(zeros) < 16:
        return "utf-8"
    return "utf-16-be" if all(index % 2 == 0 for index in zeros) else "utf-16-le"


def _header(lines: list[str]) -> tuple[str, int]:
    """Return the separator, and the number of lines above the header."""
    declared = None
    for above, line in enumerate(lines):
        unquoted = re.sub(r'"[^"]*"', "", line)
        separator = declared or max(_SEPARATORS, key=unquoted.count)
        if above == 0 and (match := _SEP.fullmatch(line.strip("\ufeff "))):
            declared = match[1]
        elif not line.strip(f" {separator}") or _is_comment(line, lines[above + 1 :], separator):
            continue
        else:
            return separator, above
    raise ValueError("it is empty")


def _is_comment(line: str, below: list[str], separator: str) -> bool:
    """Return whether a line is a comment, not a header that begins with "#".

    A header has as many cells as the next row.
    """
    if not line.startswith("#"):
        return False
    rows = (other for other in below if other.strip() and not other.startswith("#"))
    row = next(rows, None)
    parts = max(_SEPARATORS, key=row.count) if row else separator
    return row is None or row.count(parts) != line.count(parts)


def _parse(text: CsvText) -> pd.DataFrame:
    try:
        return pd.read_csv(
            text.path,
            sep=text.separator,
            header=None,  # otherwise pandas renames repeated columns
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
                'and none closes it. Close it, or remove it (within quotes, write "" for one).'
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
            f"header (row {number} has {count}). Put cells that contain "
            f"{text.separator!r} between quotation marks, or name all columns in the header."
        )


def _fill_names(header: list[str]) -> list[str]:
    """Return the names of columns; blank ones become ``Unnamed: INDEX``, as in pandas."""
    names = list(header)
    for index, name in enumerate(header):
        if not name:
            names[index] = f"Unnamed: {index}"
            while names[index] in header:
                names[index] += ".1"
    return names


def _decimal_points(column: pd.Series) -> pd.Series:
    """Return a column of numbers with decimal points instead of commas.

    If two different values would become equal, they are ids, and the column is unchanged.
    """
    if not column.str.strip().str.fullmatch(_NUMBER).all():
        return column
    pointed = column.str.replace(",", ".")
    return pointed if pointed.nunique() == column.nunique() else column


def refuse_short(path: Path, separator: str, shape: tuple[int, int]) -> None:
    """Refuse rows of a UTF-8 CSV that have fewer cells than the header.

    Parameters
    ----------
    shape
        The number of rows (including the header) and of columns of the table that pandas has read;
        pandas fills short rows with blanks.

    Raises
    ------
    EvenhandError
        If there are such rows, a NUL byte, or a quotation mark that encloses several rows.
    """
    _check_rows(CsvText(path, "utf-8-sig", separator, 0), shape)


def _check_rows(text: CsvText, shape: tuple[int, int]) -> None:
    """Refuse rows that have fewer cells than the header.

    Pandas refuses rows with more cells. Therefore the number of all separators shows whether there
    are shorter rows. The rows are parsed only if this number is wrong, or not valid because cells
    are quoted or lines are above the header.
    """
    rows, columns = shape
    separators, has_quotes, has_nul = 0, False, False
    for block in text.blocks():
        cells = np.frombuffer(block, np.uint8)
        separators += int(np.count_nonzero(cells == ord(text.separator)))
        has_quotes, has_nul = has_quotes or b'"' in block, has_nul or b"\0" in block
    if has_nul:
        _refuse_nul(text)
    if has_quotes or text.above or separators != rows * (columns - 1):
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
            if any(_contains_rows(cell, text.separator, columns) for cell in row):
                raise EvenhandError(
                    f"{text.path}, row {number}: a quotation mark opens there and closes only in a "
                    "later row, so whole rows are in one cell. Close it, or remove it."
                )
            if len(row) < columns and any(map(str.strip, row)):
                (comments if row[0].startswith("#") else short).append(number)
    if short:
        raise EvenhandError(
            f"{text.path}, {rows_text(short)}: fewer cells than the {columns} columns of the "
            "header. Is the file cut off? Fill the cells in, or remove the rows."
        )
    if comments:
        raise EvenhandError(
            f"{text.path}, {rows_text(comments)}: a comment among the rows. Move it above the "
            "header, or remove it."
        )


def _contains_rows(cell: str, separator: str, columns: int) -> bool:
    """Return whether a cell contains whole rows: as many separators as its lines would have."""
    breaks = cell.count("\n")
    return bool(breaks) and columns > 1 and cell.count(separator) == breaks * (columns - 1)


def _refuse_nul(text: CsvText) -> None:
    row = 1
    for block in text.blocks():
        if (index := block.find(b"\0")) >= 0:
            raise EvenhandError(
                f"{text.path}, row {row + block[:index].count(10)}: it holds a NUL byte, which no "
                "text contains. Is the file damaged, or of another kind? Write it again, or remove "
                "the byte."
            )
        row += block.count(b"\n")


def _other_encoding(path: Path) -> EvenhandError:
    """Return the error of a file that is not UTF-8."""
    with _opener(path)(path, "rb") as file:
        content = file.read()
    if kind := next((kind for mark, kind in _OTHER_KINDS.items() if content.startswith(mark)), ""):
        return EvenhandError(
            f"{path} is {kind}, not a text, despite its name. Unpack it or save it as CSV, or "
            "give the file its right name."
        )
    where = ""
    if content.startswith(tuple(mark for mark, name in _BOMS.items() if name != "utf-8-sig")):
        return EvenhandError(f"{path} is UTF-16 or UTF-32, but cut off. Write it again.")
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
