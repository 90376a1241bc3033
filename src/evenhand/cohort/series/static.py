"""Static variables of a patient, as channels that are observed only in the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Values
from evenhand.cohort.series.recordings import Series
from evenhand.errors import EvenhandError, first_few
from evenhand.tables.attributes import attribute_parts
from evenhand.tables.table_checks import refuse_rows, require_columns


@dataclass(frozen=True, eq=False)
class WithStatic:
    """Loads a recording with static channels in addition to its own.

    Parameters
    ----------
    series
        The recordings.
    static
        A row for each recording and a column for each static channel; NaN for unknown values.
    """

    series: Series
    static: pd.DataFrame

    def __call__(self, name: str) -> Values:
        """Return the values ``(T, C + S)`` of a recording with S static channels."""
        values = self.series.recordings(name)
        static = np.full((len(values), self.static.shape[1]), np.nan, np.float32)
        static[0] = self.static.loc[name].to_numpy(np.float32)
        return np.concatenate([values, static], axis=1)


def with_static(
    series: Series, channels: tuple[str, ...], static: pd.DataFrame
) -> tuple[Series, tuple[str, ...]]:
    """Return whole recordings with static channels after their own, and the names of all channels.

    Raises
    ------
    EvenhandError
        If a static channel has the name of a channel.
    """
    if repeated := sorted(set(channels) & set(static.columns)):
        raise EvenhandError(
            f"--static {first_few(repeated)}: the series have a channel of that name. Rename the "
            "column."
        )
    recordings = replace(series.recordings, load=WithStatic(series, static))
    return replace(series, recordings=recordings), (*channels, *map(str, static.columns))


def numeric_columns(
    table: pd.DataFrame, columns: Collection[str], forbidden: Collection[str], source: Path
) -> pd.DataFrame:
    """Return columns of a user's table as numbers, NaN for blank cells.

    Parameters
    ----------
    table
        The table as text, indexed by the row numbers for messages.
    columns
        The columns for the encoder to read.
    forbidden
        The columns of label, sample and patient, which the encoder must not read.
    source
        The path of the table.

    Raises
    ------
    EvenhandError
        If a column is missing, is in ``forbidden``, or has a cell that is not a finite number.
    """
    require_columns(table, source, columns)
    if wrong := sorted(set(columns) & set(forbidden)):
        raise EvenhandError(
            f"--static {first_few(wrong)}: this is the label, the sample or the patient, which no "
            "encoder may read. Name variables that are known at the start of the series."
        )
    numbers = {}
    for column in columns:
        number = pd.to_numeric(table[column], errors="coerce").astype("float64")
        bad = table[column].notna() & ~np.isfinite(number)
        problem = "is no finite number. Give --static a column of 0 and 1 for each category."
        refuse_rows(bad, source, f"the {column!r} {problem}")
        numbers[column] = number
    return pd.DataFrame(numbers, index=table.index)


def static_fingerprint(fingerprint: str, static: pd.DataFrame) -> str:
    """Return a fingerprint that changes with the data or with their static values."""
    values = static.to_csv().encode()
    return hashlib.sha256(fingerprint.encode() + values).hexdigest()


def static_note(static: Collection[str], attributes: Collection[str]) -> tuple[str, ...]:
    """Return a note on the static variables, and on protected attributes among them."""
    if not static:
        return ()
    protected = {part for name in attributes for part in attribute_parts(name)}
    both = [name for name in static if name in protected]
    text = f"The model reads static variables of a patient: {first_few(static)} (--static)."
    if both:
        text += (
            f" Protected attributes among them: {first_few(both)}. The model may distinguish their "
            "groups."
        )
    return (text,)
