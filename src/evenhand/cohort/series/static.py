"""What is known of a patient from the start, as channels that are observed in the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Values
from evenhand.cohort.series.recordings import Series
from evenhand.errors import EvenhandError, some
from evenhand.tables.attributes import attribute_parts
from evenhand.tables.table_checks import refuse_rows, require_columns


@dataclass(frozen=True, eq=False)
class WithStatic:
    """Loads a recording with static channels beside its own.

    Parameters
    ----------
    series
        The recordings themselves.
    static
        A row per recording and a column per channel, NaN where a value is not known.
    """

    series: Series
    static: pd.DataFrame

    def __call__(self, name: str) -> Values:
        """Return the values ``(T, C + S)`` of a recording."""
        values = self.series.recordings(name)
        added = np.full((len(values), self.static.shape[1]), np.nan, np.float32)
        added[0] = self.static.loc[name].to_numpy(np.float32)
        return np.concatenate([values, added], axis=1)


def with_static(
    series: Series, channels: tuple[str, ...], static: pd.DataFrame
) -> tuple[Series, tuple[str, ...]]:
    """Return whole recordings with static channels behind their own, and all channels.

    Raises
    ------
    EvenhandError
        If a static channel has the name of a channel.
    """
    if twice := sorted(set(channels) & set(static.columns)):
        raise EvenhandError(
            f"--static {some(twice)}: the series have a channel of that name. Rename the column."
        )
    recordings = replace(series.recordings, load=WithStatic(series, static))
    return replace(series, recordings=recordings), (*channels, *map(str, static.columns))


def numeric_columns(
    table: pd.DataFrame, columns: Collection[str], taken: Collection[str], source: Path
) -> pd.DataFrame:
    """Return columns of a table of one's own as numbers, NaN where a cell is blank.

    Parameters
    ----------
    table
        Text, indexed by the rows as messages count them.
    columns
        Those that the encoder is to read.
    taken
        The columns of label, sample and patient, which it must not read.
    source
        The table.

    Raises
    ------
    EvenhandError
        If a column is missing, is in ``taken``, or has a cell that is not a finite number.
    """
    require_columns(table, source, columns)
    if wrong := sorted(set(columns) & set(taken)):
        raise EvenhandError(
            f"--static {some(wrong)}: this is the label, the sample or the patient, which no "
            "encoder may read. Name what is known of a patient at the start of the series."
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
    """Return a fingerprint of data that changes with their static values, too."""
    values = static.to_csv().encode()
    return hashlib.sha256(fingerprint.encode() + values).hexdigest()


def static_note(static: Collection[str], attributes: Collection[str]) -> tuple[str, ...]:
    """Say what the model is told of a patient, and which of it is a protected attribute."""
    if not static:
        return ()
    protected = {part for name in attributes for part in attribute_parts(name)}
    both = [name for name in static if name in protected]
    text = f"The model reads what is known of a patient at the start: {some(static)} (--static)."
    if both:
        text += (
            f" Protected attributes among it: {some(both)}. The model may tell their groups apart."
        )
    return (text,)
