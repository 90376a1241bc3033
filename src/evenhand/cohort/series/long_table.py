"""Read series from one long table: a row for each measurement (series, time, variable, value)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import UnreadableError, Values
from evenhand.cohort.series.recordings import Series, whole_recordings
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError
from evenhand.tables.reading import read_table
from evenhand.tables.spelling import refuse_spellings, whole_numbers
from evenhand.tables.table_checks import refuse_blank, refuse_rows, require_columns
from evenhand.tables.values import read_values

TIME, VARIABLE, VALUE = "time", "variable", "value"
STEP = 1.0  # default length of a step, in the table's unit of time
ROUNDING = 1e-9  # tolerance, in steps: as floats, 0.3 / 0.1 is a little less than 3


@dataclass(frozen=True, eq=False)
class Measurements:
    """Measurements sorted by series: position on the grid and value.

    Attributes
    ----------
    path
        Path of the table.
    channels
        The variables.
    steps
        Length of every series.
    rows
        Name of a series → the slice of its measurements.
    positions
        ``(n,)`` positions in the flattened grid: step × number of channels + channel.
    values
        ``(n,)`` measured values.
    """

    path: Path
    channels: tuple[str, ...]
    steps: int
    rows: dict[str, slice]
    positions: NDArray[np.intp]
    values: NDArray[np.float64]

    def load(self, series: str) -> Values:
        """Return the values ``(T, C)``: the mean of each step, NaN for steps without a value."""
        if series not in self.rows:
            raise UnreadableError(f"{self.path} has no measurement of {series!r}.")
        rows, size = self.rows[series], self.steps * len(self.channels)
        count = np.bincount(self.positions[rows], minlength=size)
        total = np.bincount(self.positions[rows], self.values[rows], size)
        with np.errstate(invalid="ignore"):
            mean = (total / count).astype(np.float32)  # 0 / 0 is NaN: not observed
        return mean.reshape(self.steps, len(self.channels))


def long_series(
    path: Path, names: pd.Series, table: Path, settings: DataSettings
) -> tuple[Series, tuple[str, ...]]:
    """Return the series of a long table, and the names of their channels.

    Parameters
    ----------
    path
        The long table, with the columns ``time``, ``variable``, ``value``, and the name of the
        series, which has the same column name as in the table of samples. A blank value means that
        nothing was observed.
    names
        The column of the table of samples that names each sample's series.
    table
        The path of the table of samples.
    settings
        The settings of DATA: length and number of steps, and variables.

    Raises
    ------
    EvenhandError
        If a row of the long table belongs to no sample, names an unknown variable, is out of order,
        lies beyond the last step or holds no number; or if a variable has several spellings.
    """
    key = str(names.name)
    rows = read_table(path, ids=(key,))
    require_columns(rows, path, (key, TIME, VARIABLE, VALUE))
    refuse_blank(rows, path, (key, TIME, VARIABLE))
    variable = whole_numbers(read_values(settings).apply(VARIABLE, rows[VARIABLE]))
    rows = rows.assign(**{VARIABLE: variable})
    refuse_spellings(VARIABLE, rows[VARIABLE], path)
    no_sample = f"{table} has no sample of this {key!r}. Add it there, or take the rows out."
    refuse_rows(~rows[key].isin(names), path, no_sample)
    step = _steps(rows, key, path, settings)
    steps = settings.series_steps or int(step.max()) + 1
    beyond = f"the time lies beyond {steps} steps. Give more --series-steps, or take the rows out."
    refuse_rows(step >= steps, path, beyond)
    variables = tuple(sorted(rows[VARIABLE].unique()))
    channels = settings.series_variable or variables
    unknown = f"the variable is none of {', '.join(channels)}. Name it by --series-variable, too."
    refuse_rows(~rows[VARIABLE].isin(channels), path, unknown)
    value = _numbers(rows, VALUE, path)
    channel = rows[VARIABLE].map({name: index for index, name in enumerate(channels)})
    position = step * len(channels) + channel.astype("int64")
    observed = pd.DataFrame({"key": rows[key], "position": position, "value": value})
    measurements = _sort(observed[value.notna()], path, channels, steps)
    return whole_recordings(names.tolist(), measurements.load, steps), channels


def _sort(
    observed: pd.DataFrame, path: Path, channels: tuple[str, ...], steps: int
) -> Measurements:
    """Return measurements (key of the series, position, value), sorted by series."""
    if observed.empty:
        raise EvenhandError(f"{path}: nothing was observed, every value is blank.")
    observed = observed.sort_values("key", kind="stable")
    series, starts = np.unique(observed["key"].to_numpy(object), return_index=True)
    ends = np.append(starts[1:], len(observed))
    return Measurements(
        path,
        channels,
        steps,
        {str(name): slice(a, b) for name, a, b in zip(series, starts, ends, strict=True)},
        observed["position"].to_numpy(np.intp),
        observed["value"].to_numpy(np.float64),
    )


def _steps(rows: pd.DataFrame, key: str, path: Path, settings: DataSettings) -> pd.Series:
    """Return the step of each row; refuse times that are out of order within a series."""
    time = _numbers(rows, TIME, path)
    refuse_rows(time < 0, path, f"the {TIME!r} is below 0; count from the start of the series.")
    earlier = "the time is earlier than in the row above of the same series. Sort them by time."
    refuse_rows(time.groupby(rows[key]).diff() < 0, path, earlier)
    return (time / (settings.series_step or STEP) + ROUNDING).astype("int64")


def _numbers(rows: pd.DataFrame, column: str, path: Path) -> pd.Series:
    number = pd.to_numeric(rows[column], errors="coerce").astype("float64")
    bad = rows[column].notna() & ~np.isfinite(number)
    refuse_rows(bad, path, f"the {column!r} is no finite number.")
    return number
