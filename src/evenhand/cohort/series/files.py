"""Read series from CSV files, one file each: rows are time steps, columns are channels."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc

from evenhand.cohort.cohort import UnreadableError, Values
from evenhand.cohort.series.recordings import Series, whole_recordings
from evenhand.errors import EvenhandError, first_few
from evenhand.tables.reading import BLANK

# Errors of csv and pyarrow for a damaged file; `_read_numbers` raises ValueError, too.
_DAMAGED = (OSError, ValueError, csv.Error)
_NO_NUMBER = re.compile(r"column #(\d+): Row #(\d+): .* invalid value (.*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class SeriesForm:
    """The channels and the length of all series of a table, and the file that defines them."""

    path: Path
    channels: tuple[str, ...]
    steps: int


@dataclass(frozen=True, eq=False)
class SeriesFiles:
    """Reads series from files.

    Parameters
    ----------
    files
        Sample id → path.
    rows
        Sample id → row of ``table``, for messages.
    table
        The table that names the files.
    """

    files: Mapping[str, Path]
    rows: Mapping[str, int]
    table: Path

    def form(self) -> SeriesForm:
        """Return the form of the first readable series, which all others must have.

        Raises
        ------
        UnreadableError
            If none of the series can be read; the message is about the first one.
        """
        problems = []
        for sample_id, path in self.files.items():
            try:
                series = self._read(sample_id)
            except UnreadableError as error:
                problems.append(error)
            else:
                return SeriesForm(path, tuple(series.columns), len(series))
        raise problems[0] if problems else EvenhandError(f"{self.table} names no series.")

    def load(self, form: SeriesForm, sample_id: str) -> Values:
        """Return the values ``(T, C)`` of one series, NaN for blank cells."""
        series = self._read(sample_id)
        present, required = set(series.columns), set(form.channels)
        if present != required:
            absent, extra = sorted(required - present), sorted(present - required)
            lacks = f"lacks the columns {first_few(absent)}" if absent else ""
            more = f"has also {first_few(extra)}" if extra else ""
            raise self._form_error(sample_id, " and ".join(filter(None, (lacks, more))), form)
        if len(series) != form.steps:
            problem = f"has {len(series)} time steps instead of {form.steps}"
            raise self._form_error(sample_id, problem, form)
        return series[list(form.channels)].to_numpy(np.float32)

    def _read(self, sample_id: str) -> pd.DataFrame:
        try:
            return _read_numbers(self.files[sample_id])
        except _DAMAGED as error:
            raise UnreadableError(f"{self._location(sample_id)} cannot be read: {error}") from error

    def _form_error(self, sample_id: str, problem: str, form: SeriesForm) -> UnreadableError:
        return UnreadableError(
            f"{self._location(sample_id)} {problem}, unlike {form.path}. All series of a table "
            "must have the same channels and length."
        )

    def _location(self, sample_id: str) -> str:
        return f"{self.files[sample_id]} ({self.table}, row {self.rows[sample_id]})"


def series_files(
    paths: pd.Series, sample_ids: pd.Series, table: Path
) -> tuple[Series, tuple[str, ...]]:
    """Return a reader of the series that a table names, and the names of their channels.

    Only the first file is read; the form of the others is checked when they are decoded.

    Parameters
    ----------
    paths
        The path of each sample, indexed by the row of the table.
    sample_ids
        The ids of the samples, in the same order.
    table
        The path of the table.
    """
    ids = sample_ids.tolist()
    files, rows = zip(ids, map(Path, paths), strict=True), zip(ids, paths.index, strict=True)
    read = SeriesFiles(dict(files), dict(rows), table)
    form = read.form()
    return whole_recordings(ids, partial(read.load, form), form.steps), form.channels


def _read_numbers(path: Path) -> pd.DataFrame:
    """Read a file as float32, one column per channel; a blank line is a step without values.

    Raises
    ------
    ValueError
        If column names are blank or repeated, a row is too short or too long, a cell is not a
        finite number, or nothing was observed.
    """
    with path.open(newline="", encoding="utf-8-sig") as lines:
        channels = [name.strip() for name in next(csv.reader(lines), [])]
        if not lines.readline():
            raise ValueError("it has no row below the header")
    repeated = [name for name, times in Counter(channels).items() if times > 1]
    if repeated or "" in channels:
        what = f"repeats {first_few(repeated)}" if repeated else "has a column without a name"
        raise ValueError(f"row 1, which names the channels, {what}")
    try:
        table = pc.read_csv(
            path,
            pc.ReadOptions(use_threads=False, skip_rows=1, column_names=channels),
            pc.ParseOptions(ignore_empty_lines=False),
            pc.ConvertOptions(
                column_types=dict.fromkeys(channels, pa.float32()), null_values=list(BLANK)
            ),
        )
    except pa.ArrowInvalid as error:
        if cell := _NO_NUMBER.search(str(error)):
            name = channels[int(cell[1])]
            raise ValueError(f"row {cell[2]}: {name!r} is no number: {cell[3]}") from error
        raise
    series: pd.DataFrame = table.to_pandas()
    infinite = np.isinf(series.to_numpy()).any(axis=1)
    if infinite.any():
        raise ValueError(f"row {2 + int(infinite.argmax())} holds a number that is not finite")
    if series.isna().all(axis=None):
        raise ValueError("nothing was observed in it: every cell is blank")
    return series
