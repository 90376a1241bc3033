"""Protected attributes: rules from raw values to levels, and the groups that they make."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pandas as pd

from evenhand.cohort.tables import plain
from evenhand.errors import EvenhandError, pick

UNKNOWN = "unknown"
_RACES = (
    ("White", re.compile("white|caucasian")),  # first, for the "asian" in "caucasian"
    ("Black", re.compile("black|african american")),
    ("Asian", re.compile("asian")),
    ("Hispanic", re.compile("(?<!non-)(?<!not )(hispanic|latino)")),
)
_NO_RACE = re.compile("unknown|refused|declined|unable|not specified")

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
        The rule: raw values in, one level each out, whatever the values around it.
    numeric
        Whether the levels are bins of a number, which ``--bins`` may place elsewhere.
    """

    name: str
    column: str
    levels: tuple[str, ...]
    to_level: Callable[[pd.Series], pd.Series]
    numeric: bool = False

    def of(self, raw: pd.Series) -> pd.Series:
        """Return one level per raw value; whatever the rule does not name is ``unknown``.

        Categorical: the categories are the levels in their order, then ``unknown``.
        """
        which, values = pd.factorize(raw, use_na_sentinel=False)
        level = self.to_level(pd.Series(values))  # each value once: there are few of them
        place = pd.Index(self.levels).get_indexer(pd.Index(level))
        codes = np.where(place < 0, len(self.levels), place)[which]
        categories = pd.Index([*self.levels, UNKNOWN], dtype="str")
        return pd.Series(pd.Categorical.from_codes(codes, categories), raw.index)


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


def named(
    name: str, column: str, levels: Mapping[str, tuple[str, ...]], rest: str | None = None
) -> Attribute:
    """Make an attribute from the values that each level stands for.

    Case does not matter, nor does "1.0" for "1". With ``rest``, every other value that is not
    blank, and not "unknown", is of that level.

    Examples
    --------
    >>> sex = named("sex", "Gender", {"female": ("f", "1"), "male": ("m", "0")})
    >>> sex.of(pd.Series(["F", "0.0", "-1"])).tolist()
    ['female', 'male', 'unknown']
    """
    level_of: dict[str, str | None] = {UNKNOWN: None}
    level_of |= {plain(value): level for level, values in levels.items() for value in values}

    def to_level(raw: pd.Series) -> pd.Series:
        return raw.map(lambda value: level_of.get(plain(value), rest), na_action="ignore")

    every = dict.fromkeys([*levels, *([rest] if rest else [])])
    return Attribute(name, column, tuple(every), to_level)


def sex(column: str) -> Attribute:
    """Make the attribute ``sex`` from a column of words or their first letters."""
    return named("sex", column, {"female": ("female", "f"), "male": ("male", "m")})


def race(name: str, column: str) -> Attribute:
    """Make an attribute of race out of words as hospitals write them.

    "White, non-Hispanic" and "WHITE - RUSSIAN" are White; what is refused or not known is unknown.
    """
    levels = (*(level for level, _ in _RACES), "Other")

    def to_level(raw: pd.Series) -> pd.Series:
        return raw.map({text: _race(text) for text in raw.dropna().unique()})

    return Attribute(name, column, levels, to_level)


def white(name: str, column: str) -> Attribute:
    """Make an attribute of two levels, White and non-White, by the rule of ``race``."""
    by_race = race(name, column)
    level_of = dict.fromkeys(by_race.levels, "non-White") | {"White": "White"}
    return Attribute(
        name, column, ("White", "non-White"), lambda raw: by_race.to_level(raw).map(level_of)
    )


def distinct(name: str, column: str, raw: pd.Series) -> Attribute:
    """Make an attribute whose levels are the values that occur, sorted (numbers as numbers).

    A blank value, and the word "unknown" in any spelling of its case, is no level.
    """
    values = sorted({str(value) for value in raw.dropna().unique()}, key=_numbers_first)
    return mapped(name, column, {value: value for value in values if value.casefold() != UNKNOWN})


def is_measurement(raw: pd.Series) -> bool:
    """Tell whether a column holds numbers that are no levels: too many of them."""
    number = pd.to_numeric(raw.dropna(), errors="coerce")
    return bool(number.notna().all()) and number.nunique() > FEW


def binned(
    name: str, column: str, edges: Sequence[float], *, edge_below: bool = False
) -> Attribute:
    """Make an attribute of intervals.

    Parameters
    ----------
    name, column
        As in ``Attribute``.
    edges
        Where one bin ends and the next begins: finite, increasing, at least one.
    edge_below
        Whether a value that equals an edge belongs to the bin below it, instead of above.

    Raises
    ------
    EvenhandError
        The edges are no such numbers.

    Examples
    --------
    >>> binned("age", "age", (20, 40, 60, 80)).levels
    ('under 20', '20-39', '40-59', '60-79', '80+')
    >>> binned("age", "age", (60, 75), edge_below=True).levels
    ('up to 60', '61-75', 'over 75')
    """
    increasing = all(low < high for low, high in pairwise(edges))
    if not edges or not increasing or not all(map(math.isfinite, edges)):
        raise EvenhandError(
            f"the bins of {name!r} have the edges {', '.join(map(str, edges)) or '(none)'}; "
            "give finite, increasing numbers, as in age=20,40,60,80."
        )
    levels = _bins_below(edges) if edge_below else _bins_above(edges)

    def to_level(raw: pd.Series) -> pd.Series:
        number = pd.to_numeric(raw, errors="coerce").to_numpy(float, na_value=np.nan)
        place = np.searchsorted(np.asarray(edges, float), number, "left" if edge_below else "right")
        names = np.array([*levels, UNKNOWN])
        return pd.Series(names[np.where(np.isnan(number), len(levels), place)], index=raw.index)

    return Attribute(name, column, levels, to_level, numeric=True)


@dataclass(frozen=True)
class Bins:
    """Where the bins of a numeric attribute begin, and which of them an edge belongs to."""

    edges: tuple[float, ...]
    edge_below: bool = False

    def attribute(self, name: str, column: str) -> Attribute:
        """Return the attribute with these bins."""
        return binned(name, column, self.edges, edge_below=self.edge_below)


def parse_bins(texts: Sequence[str]) -> dict[str, Bins]:
    """Return the bins of each attribute from texts such as ``age=20,40,60,80``.

    With ``<=`` for ``=``, an edge belongs to the bin below it: ``age=60`` makes under 60 and 60+,
    ``age<=60`` makes up to 60 and over 60.

    Raises
    ------
    EvenhandError
        A text is not of that form, or an attribute comes twice.

    Examples
    --------
    >>> parse_bins(["age<=60", "bmi=18.5,25"])["age"]
    Bins(edges=(60.0,), edge_below=True)
    """
    bins: dict[str, Bins] = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        edge_below = name.endswith("<")
        name = name.removesuffix("<").strip()
        if name in bins:
            raise EvenhandError(f"the attribute {name!r} has two sets of bins; give one.")
        try:
            edges = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            raise EvenhandError(
                f"the bins {text!r} are not of the form NAME=EDGE,EDGE,… or NAME<=EDGE,…, as in "
                "age=20,40,60,80."
            ) from None
        bins[name] = Bins(edges, edge_below)
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
    group = table[f"attr_{parts[0]}"].astype("str")
    for part in parts[1:]:
        group = group + "*" + table[f"attr_{part}"].astype("str")
    known = group.where(group.isin(names), UNKNOWN)
    categories = pd.Categorical(known, categories=[*names, UNKNOWN])
    return pd.Series(categories, index=table.index, name=attribute)


def _race(text: str) -> str | None:
    """Return the level of race that a text stands for; None where it says none."""
    words = text.casefold()
    if _NO_RACE.search(words):
        return None
    return next((level for level, pattern in _RACES if pattern.search(words)), "Other")


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


def _bins_above(edges: Sequence[float]) -> tuple[str, ...]:
    between = (_interval(low, high) for low, high in pairwise(edges))
    return (f"under {_number(edges[0])}", *between, f"{_number(edges[-1])}+")


def _bins_below(edges: Sequence[float]) -> tuple[str, ...]:
    between = (
        _interval(low + 1, high + 1)
        if _whole(low) and _whole(high)
        else f">{_number(low)} to {_number(high)}"
        for low, high in pairwise(edges)
    )
    return (f"up to {_number(edges[0])}", *between, f"over {_number(edges[-1])}")


def _whole(edge: float) -> bool:
    return float(edge).is_integer() and edge >= 0


def _interval(low: float, high: float) -> str:
    """Name a bin: 20 to 40 is "20-39" where both are whole numbers, "18.5 to <25" otherwise."""
    if not (_whole(low) and _whole(high)):
        return f"{_number(low)} to <{_number(high)}"
    return _number(low) if high - low == 1 else f"{_number(low)}-{_number(high - 1)}"
