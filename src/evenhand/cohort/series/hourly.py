"""The hourly grid of the mimic3-benchmarks: 48 hours by 76 channels (Harutyunyan et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evenhand.cohort.cohort import Values
from evenhand.tables.reading import plain_cell

HOURS = 48
EDGE = 1e-6  # hours; a time at the end of an hour belongs to this hour, as in the benchmark
# The values of the five categorical variables, in the order of the benchmark's channels.
CATEGORIES = {
    "Capillary refill rate": ("0", "1"),
    "Glascow coma scale eye opening": (
        "To Pain",
        "3 To speech",
        "1 No Response",
        "4 Spontaneously",
        "None",
        "To Speech",
        "Spontaneously",
        "2 To pain",
    ),
    "Glascow coma scale motor response": (
        "1 No Response",
        "3 Abnorm flexion",
        "Abnormal extension",
        "No response",
        "4 Flex-withdraws",
        "Localizes Pain",
        "Flex-withdraws",
        "Obeys Commands",
        "Abnormal Flexion",
        "6 Obeys Commands",
        "5 Localizes Pain",
        "2 Abnorm extensn",
    ),
    "Glascow coma scale total": (
        *("11", "10", "13", "12", "15", "14"),
        *("3", "5", "4", "7", "6", "9", "8"),
    ),
    "Glascow coma scale verbal response": (
        "1 No Response",
        "No Response",
        "Confused",
        "Inappropriate Words",
        "Oriented",
        "No Response-ETT",
        "5 Oriented",
        "Incomprehensible sounds",
        "1.0 ET/Trach",
        "4 Confused",
        "2 Incomp sounds",
        "3 Inapprop words",
    ),
}
VARIABLES = (
    "Capillary refill rate",
    "Diastolic blood pressure",
    "Fraction inspired oxygen",
    "Glascow coma scale eye opening",
    "Glascow coma scale motor response",
    "Glascow coma scale total",
    "Glascow coma scale verbal response",
    "Glucose",
    "Heart Rate",
    "Height",
    "Mean blood pressure",
    "Oxygen saturation",
    "Respiratory rate",
    "Systolic blood pressure",
    "Temperature",
    "Weight",
    "pH",
)
CHANNELS = (
    *(
        f"{name}: {value}" if value else name
        for name in VARIABLES
        for value in CATEGORIES.get(name, ("",))
    ),
    *(f"observed: {name}" for name in VARIABLES),
)


def hourly_grid(lines: Iterable[Sequence[str]]) -> Values:
    """Return the grid ``(48, 76)``: the last value of each hour, NaN for hours without a value.

    Parameters
    ----------
    lines
        The cells of the header, then those of each line.

    Raises
    ------
    ValueError
        If a column is missing, a line is cut off, or a cell is neither a number nor a known
        category.
    """
    header, *rows = [*lines] or [[]]
    absent = {"Hours", *VARIABLES} - set(header)
    if absent:
        raise ValueError(f"it has no column {', '.join(sorted(absent))}")
    values: Values = np.full((HOURS, len(CHANNELS)), np.nan, np.float32)
    observed = values[:, -len(VARIABLES) :]
    observed[:] = 0
    time_column, *columns = (header.index(name) for name in ("Hours", *VARIABLES))
    for line, cells in enumerate(rows, start=2):
        if not cells:
            continue
        if len(cells) < len(header):
            raise ValueError(f"line {line} is cut off")
        time = float(cells[time_column])
        if time < -EDGE or time > HOURS + EDGE:
            continue
        hour = min(int(time - EDGE), HOURS - 1)
        for number, column in enumerate(columns):
            if cells[column]:
                _write_cell(values[hour], VARIABLES[number], cells[column])
                observed[hour, number] = 1
    return values


_FIRST_CHANNEL = {
    name: CHANNELS.index(next(c for c in CHANNELS if c.startswith(name))) for name in VARIABLES
}
_CATEGORY_INDEX: Mapping[str, Mapping[str, int]] = {
    name: {plain_cell(value): index for index, value in enumerate(values)}
    for name, values in CATEGORIES.items()
}


def _write_cell(row: Values, name: str, cell: str) -> None:
    """Write a cell into the channels of its variable."""
    first, categories = _FIRST_CHANNEL[name], _CATEGORY_INDEX.get(name)
    if categories is None:
        row[first] = float(cell)
    else:
        category = categories.get(plain_cell(cell))
        if category is None:
            raise ValueError(f"{name} is {cell!r}; known are {', '.join(CATEGORIES[name])}")
        row[first : first + len(categories)] = 0
        row[first + category] = 1
