"""Protected attributes: rules from raw values to levels, and the groups that they make."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError, pick
from evenhand.tables.levels import level_order
from evenhand.tables.reading import plain

UNKNOWN = "unknown"
_RACES = (
    ("White", re.compile("white|caucasian")),  # first, for the "asian" in "caucasian"
    ("Black", re.compile("black|african american")),
    ("Asian", re.compile("asian")),
    ("Hispanic", re.compile("(?<!non-)(?<!not )(hispanic|latino)")),
)
# What is written where nothing was learnt, in hospitals and surveys; "*" is what is withheld of few
# people, and in our own tables it is everybody.
_UNTOLD = re.compile(
    r"unknown|refused|declined|unable to (obtain|answer|determine)|unobtainable|prefer not"
    r"|not (specified|stated|reported|recorded|available|known|disclosed)|^[?*]+$|^missing$"
    r"|^#(ref!|div/0!|value!|name\?|num!|null!)$"  # of a spreadsheet's formula that failed
)


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
    blank, and not "unknown" or the like, is of that level.

    Examples
    --------
    >>> sex = named("sex", "Gender", {"female": ("f", "1"), "male": ("m", "0")})
    >>> sex.of(pd.Series(["F", "0.0", "-1"])).tolist()
    ['female', 'male', 'unknown']
    """
    level_of = {plain(value): level for level, values in levels.items() for value in values}

    def level(value: str) -> str | None:
        return level_of.get(plain(value), None if untold(value) else rest)

    def to_level(raw: pd.Series) -> pd.Series:
        return raw.map(level, na_action="ignore")

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
    """Make an attribute whose levels are the values that occur, in order (see `level_order`).

    A blank value is no level, nor are "unknown", "not specified", "refused", "?", "*" and the like.
    """
    values = sorted({str(value) for value in raw.dropna().unique()}, key=level_order)
    return mapped(name, column, {value: value for value in values if not untold(value)})


def untold(text: str) -> bool:
    """Tell whether a text says that something was not learnt, or is withheld.

    Examples
    --------
    >>> untold("Not specified"), untold("*"), untold("60+")
    (True, True, False)
    """
    return _UNTOLD.search(text.casefold()) is not None


def parts_of(attribute: str) -> tuple[str, ...]:
    """Return the attributes that an intersection is made of: ``sex*age`` gives sex and age."""
    return tuple(attribute.split("*"))


def with_intersections(attributes: Sequence[str], depth: int) -> tuple[str, ...]:
    """Return attributes, and the intersections of 2 to ``depth`` of their parts.

    An attribute within the levels of another (``sex|site``) takes no part. Intersections that are
    there already, in whatever order, are not repeated.

    Raises
    ------
    EvenhandError
        If ``depth`` is above 1 and there is only one attribute.

    Examples
    --------
    >>> with_intersections(["sex", "age", "site"], 2)
    ('sex', 'age', 'site', 'sex*age', 'sex*site', 'age*site')
    """
    plain_names = [name for name in attributes if "|" not in name]
    parts = list(dict.fromkeys(part for name in plain_names for part in parts_of(name)))
    if depth > 1 and len(parts) < 2:
        raise EvenhandError(
            f"--intersections {depth} crosses attributes, and there is {', '.join(parts)} alone. "
            "Name others with --attribute, or leave --intersections out."
        )
    there = {frozenset(parts_of(name)) for name in plain_names}
    crossed = (
        combination
        for size in range(2, depth + 1)
        for combination in combinations(parts, size)
        if frozenset(combination) not in there
    )
    return (*attributes, *map("*".join, crossed))


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
        If there is no such attribute.
    """
    parts = parts_of(attribute)
    names = ["*".join(combination) for combination in product(*_levels_of(parts, levels))]
    group = table[f"attr_{parts[0]}"].astype("str")
    for part in parts[1:]:
        group = group + "*" + table[f"attr_{part}"].astype("str")
    every = pd.CategoricalDtype([*names, UNKNOWN])
    codes = pd.Index(every.categories).get_indexer(group)
    codes[codes < 0] = len(names)
    categories = pd.Categorical.from_codes(codes, dtype=every)
    return pd.Series(categories, index=table.index, name=attribute)


def _race(text: str) -> str | None:
    """Return the level of race that a text stands for; None where it says none."""
    if untold(text):
        return None
    words = text.casefold()
    return next((level for level, pattern in _RACES if pattern.search(words)), "Other")


def _levels_of(
    parts: tuple[str, ...], levels: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, ...]]:
    return [pick("attribute", part, levels) for part in parts]
