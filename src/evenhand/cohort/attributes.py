"""Protected attributes: rules from raw values to levels, and the groups that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError, pick

UNKNOWN = "unknown"
FEW = 10
"""A numeric column with more distinct values than these is a measurement: it needs bins."""


@dataclass(frozen=True)
class Attribute:
    """A rule from raw values to the levels of a protected attribute.

    Parameters
    ----------
    name
        What the attribute is called, from the command line to the report.
    column
        The column of the source that holds its raw values.
    levels
        Every level that the rule can give, in order. ``unknown`` is none of them.
    to_level
        The rule: raw values in, one level each out.
    """

    name: str
    column: str
    levels: tuple[str, ...]
    to_level: Callable[[pd.Series], pd.Series]

    def of(self, raw: pd.Series) -> pd.Series:
        """Return one level per raw value; whatever the rule does not name is ``unknown``."""
        level = self.to_level(raw)
        return level.where(level.isin(self.levels), UNKNOWN).astype("str")


def mapped(name: str, column: str, mapping: Mapping[str, str]) -> Attribute:
    """Make an attribute from a table of raw values and their levels.

    Examples
    --------
    >>> sex = mapped("sex", "Sex", {"F": "female", "M": "male"})
    >>> sex.of(pd.Series(["M", "F", "X"])).tolist()
    ['male', 'female', 'unknown']
    """
    levels = tuple(dict.fromkeys(mapping.values()))
    return Attribute(name, column, levels, lambda raw: raw.map(mapping))


def distinct(name: str, column: str, raw: pd.Series) -> Attribute:
    """Make an attribute whose levels are the values that occur, sorted (numbers as numbers).

    A blank value, and the word "unknown" in any spelling of its case, is no level.
    """
    values = sorted({str(value) for value in raw.dropna()}, key=_numbers_first)
    return mapped(name, column, {value: value for value in values if value.casefold() != UNKNOWN})


def is_measurement(raw: pd.Series) -> bool:
    """Tell whether a column holds numbers that are no levels: too many of them."""
    number = pd.to_numeric(raw.dropna(), errors="coerce")
    return bool(number.notna().all()) and number.nunique() > FEW


def binned(name: str, column: str, edges: Sequence[float]) -> Attribute:
    """Make an attribute of intervals; a value that equals an edge belongs to the bin above it.

    Parameters
    ----------
    name, column
        As in ``Attribute``.
    edges
        Where one bin ends and the next begins: finite, increasing, at least one.

    Raises
    ------
    EvenhandError
        The edges are no such numbers.

    Examples
    --------
    >>> binned("age", "age", (20, 40, 60, 80)).levels
    ('under 20', '20-39', '40-59', '60-79', '80+')
    """
    increasing = all(low < high for low, high in pairwise(edges))
    if not edges or not increasing or not all(map(math.isfinite, edges)):
        raise EvenhandError(
            f"the bins of {name!r} have the edges {', '.join(map(str, edges)) or '(none)'}; "
            "give finite, increasing numbers, as in age=20,40,60,80."
        )
    levels = (
        f"under {_number(edges[0])}",
        *(_interval(low, high) for low, high in pairwise(edges)),
        f"{_number(edges[-1])}+",
    )

    def to_level(raw: pd.Series) -> pd.Series:
        number = pd.to_numeric(raw, errors="coerce").to_numpy(float, na_value=np.nan)
        place = np.searchsorted(np.asarray(edges, float), number, side="right")
        names = np.array([*levels, UNKNOWN])
        return pd.Series(names[np.where(np.isnan(number), len(levels), place)], index=raw.index)

    return Attribute(name, column, levels, to_level)


def parse_bins(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Return the edges for each attribute from texts such as ``age=20,40,60,80``.

    Raises
    ------
    EvenhandError
        A text is not of that form, or an attribute comes twice.

    Examples
    --------
    >>> parse_bins(["age=60", "bmi=18.5,25,30"])
    {'age': (60.0,), 'bmi': (18.5, 25.0, 30.0)}
    """
    bins: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        if name in bins:
            raise EvenhandError(f"the attribute {name!r} has two sets of bins; give one.")
        try:
            bins[name] = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            raise EvenhandError(
                f"the bins {text!r} are not of the form NAME=EDGE,EDGE,…, as in age=20,40,60,80."
            ) from None
    return bins


def parts_of(attribute: str) -> tuple[str, ...]:
    """Return the attributes that an intersection is made of: ``sex*age`` gives sex and age."""
    return tuple(attribute.split("*"))


def group_of(
    table: pd.DataFrame, attribute: str, levels: Mapping[str, tuple[str, ...]]
) -> pd.Series:
    """Return the group of each row, for an attribute or for an intersection such as ``sex*age``.

    Parameters
    ----------
    table
        A column ``attr_<name>`` for each attribute.
    attribute
        The name of an attribute, or several with ``*`` between them.
    levels
        The levels of each attribute, in order.

    Returns
    -------
    pandas.Series
        Categorical, on the index of ``table``. The categories are every combination of levels in
        their order (``female*60+``), then ``unknown``: the group of each row that lacks a part.

    Raises
    ------
    UnknownNameError
        There is no such attribute.
    """
    parts = parts_of(attribute)
    names = ["*".join(combination) for combination in product(*_levels_of(parts, levels))]
    group = table[f"attr_{parts[0]}"]
    for part in parts[1:]:
        group = group + "*" + table[f"attr_{part}"]
    known = group.where(group.isin(names), UNKNOWN)
    categories = pd.Categorical(known, categories=[*names, UNKNOWN])
    return pd.Series(categories, index=table.index, name=attribute)


def _levels_of(
    parts: tuple[str, ...], levels: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, ...]]:
    return [pick("attribute", part, levels) for part in parts]


def _numbers_first(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return math.inf, value


def _number(edge: float) -> str:
    return str(int(edge)) if float(edge).is_integer() else str(edge)


def _interval(low: float, high: float) -> str:
    """Name a bin: 20 to 40 is "20-39" where both are whole numbers, "18.5 to <25" otherwise."""
    if not (float(low).is_integer() and float(high).is_integer() and low >= 0):
        return f"{_number(low)} to <{_number(high)}"
    return _number(low) if high - low == 1 else f"{_number(low)}-{_number(high - 1)}"
