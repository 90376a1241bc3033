"""Protected attributes: rules from raw values to levels in order, and the groups of rows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError, pick
from evenhand.tables.reading import plain_cell, read_column
from evenhand.tables.spelling import (
    count_values,
    refuse_group_spellings,
    refuse_no_text,
    whole_numbers,
)

UNKNOWN = "unknown"
"""The level of samples whose level is not known."""

_RANGE = re.compile(
    r"(?P<below><=?|≤|under |below |up to |less than )\s*[\d.]+.*"
    r"|(?P<above>>=?|≥|over |above |more than )\s*(?P<least>\d+(\.\d+)?).*"
    r"|(?P<first>-?\d+(\.\d+)?)\s*(\+|(-|\u2013|to|and)\s*<?\s*[a-z\d].*|years?.*|y)?"
)
_SIGNS = re.compile(r"[-_./*?+]+")
_CODES = re.compile(
    r"u|x|uk|unk|ukn|unkn|nk|ni|dk|ns|nr|nd|n\.a\.|n\.d\.|k\.a\.|inc|tbd|missing|undefined|none"
    r"|undetermined|indeterminate|blank|empty|not applicable|no data|no answer",
    re.IGNORECASE,
)
_NUMBERS = re.compile("7|8|9|77|88|99|777|888|9999?|-1|-7|-8|-9|-77|-88|-9999?|-99")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"({'|'.join(_MONTHS)})[a-z]*\.?"
_DATED = re.compile(
    rf"(?P<day>\d{{1,2}})[-/ .](?P<month>{_MONTH})|(?P<first>{_MONTH})[-/ .](?P<last>\d{{1,2}})",
    re.IGNORECASE,
)
_FROM = re.compile(r"[<>≤≥]?=?\s*\d")  # how a range or a number begins


def level_order(value: str) -> tuple[float, tuple[tuple[int, float, str], ...]]:
    """Return the sort key of a level: numbers as numbers, ranges by their lower end, then words.

    Digits within words count as numbers, so that "site 2" comes before "site 10".

    Examples
    --------
    >>> sorted(["60+", "30-59", "<30"], key=level_order)
    ['<30', '30-59', '60+']
    >>> sorted(["10", "9", "site 10", "site 2"], key=level_order)
    ['9', '10', 'site 2', 'site 10']
    """
    parts = tuple(
        (0, float(part), "") if part.isdecimal() else (1, 0.0, part)
        for part in re.split(r"(\d+)", value)
        if part
    )
    return _lower_end(value), parts


def likely_unknown(levels: Iterable[str]) -> tuple[str, ...]:
    """Return the levels that often are codes for unknown, such as "U", "." and "9".

    A number next to another level (8 and 9) is not such a code; nor is "-" if "+" is a level.

    Examples
    --------
    >>> likely_unknown(["F", "M", "U", "9", "-"])
    ('U', '9', '-')
    >>> likely_unknown(["8", "9", "10"]), likely_unknown(["+", "-"])
    ((), ())
    """
    names = list(levels)
    return tuple(level for level in names if _is_code(level, names))


def ranges_as_dates(levels: Iterable[str]) -> dict[str, str]:
    """Return date → range, for ranges of numbers that a spreadsheet has turned into dates.

    If no other level is a range or a number, the result is empty.

    Examples
    --------
    >>> ranges_as_dates(["0-9", "19-Oct", "20-39"]), ranges_as_dates(["Sep-19", "Oct-19"])
    ({'19-Oct': '10-19'}, {})
    """
    names = list(levels)
    dates = {level: match for level in names if (match := _DATED.fullmatch(level))}
    if not any(_FROM.match(level) for level in names if level not in dates):
        return {}
    return {level: _range_of(match) for level, match in dates.items()}


def _range_of(date: re.Match[str]) -> str:
    month = _MONTHS.index((date["month"] or date["first"])[:3].casefold()) + 1
    low, high = sorted((month, int(date["day"] or date["last"])))
    return f"{low}-{high}"


def _is_code(level: str, levels: list[str]) -> bool:
    if _NUMBERS.fullmatch(level) and {*levels} != {"-1", "1"}:
        number = int(level)
        near = {str(number - 1), str(number + 1), f"{number - 1}.0", f"{number + 1}.0"}
        return not near & {*levels}
    signs = _SIGNS.fullmatch(level) is not None and not {"+", "-"} <= {*levels}
    return signs or _CODES.fullmatch(level) is not None


def _lower_end(value: str) -> float:
    with suppress(ValueError):
        return math.inf if math.isnan(float(value)) else float(value)
    range_ = _RANGE.fullmatch(value.casefold())
    if range_ is None:
        return math.inf
    if range_["below"]:
        return -math.inf
    return float(range_["least"] or range_["first"])


LONGEST = 200
"""The largest number of characters of a group's name."""

_RACES = (
    ("White", re.compile("white|caucasian")),  # first, because "caucasian" contains "asian"
    ("Black", re.compile("black|african american")),
    ("Asian", re.compile("asian")),
    ("Hispanic", re.compile("(?<!non-)(?<!not )(hispanic|latino)")),
)
# Texts that mean unknown in hospitals and surveys; "*" is a value that is withheld because few
# people have it.
_UNKNOWN_TEXTS = re.compile(
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
        The name of the attribute, as in ``--attribute``.
    column
        The column of the source with its raw values.
    levels
        Every level that the rule can return, in order, without ``unknown``.
    to_level
        The rule: returns the level of each raw value, independently of the other values.
    numeric
        Whether the levels are bins of a number, which ``--bins`` can change.
    """

    name: str
    column: str
    levels: tuple[str, ...]
    to_level: Callable[[pd.Series], pd.Series]
    numeric: bool = False

    def levels_of(self, raw: pd.Series) -> pd.Series:
        """Return the level of each raw value; values without a level are ``unknown``.

        The result is categorical, with the levels in order and then ``unknown``.
        """
        which, values = pd.factorize(raw, use_na_sentinel=False)
        level = self.to_level(pd.Series(values))  # each distinct value is converted once
        index = pd.Index(self.levels).get_indexer(pd.Index(level))
        codes = np.where(index < 0, len(self.levels), index)[which]
        categories = pd.Index([*self.levels, UNKNOWN], dtype="str")
        return pd.Series(pd.Categorical.from_codes(codes, categories), raw.index)


def attribute_by_value(name: str, column: str, mapping: Mapping[str, str]) -> Attribute:
    """Return an attribute from a mapping of raw values to levels.

    Examples
    --------
    >>> sex = attribute_by_value("sex", "Sex", {"F": "female", "M": "male"})
    >>> sex.levels_of(pd.Series(["M", "F", "X"])).tolist()
    ['male', 'female', 'unknown']
    """
    levels = tuple(dict.fromkeys(mapping.values()))
    return Attribute(name, column, levels, lambda raw: raw.map(mapping))


def attribute_by_level(
    name: str, column: str, levels: Mapping[str, tuple[str, ...]], rest: str | None = None
) -> Attribute:
    """Return an attribute from a mapping of levels to raw values.

    Capitals are ignored, and "1.0" equals "1". ``rest`` is the level of all other values that are
    not blank and do not mean unknown.

    Examples
    --------
    >>> sex = attribute_by_level("sex", "Gender", {"female": ("f", "1"), "male": ("m", "0")})
    >>> sex.levels_of(pd.Series(["F", "0.0", "-1"])).tolist()
    ['female', 'male', 'unknown']
    """
    level_of = {plain_cell(value): level for level, values in levels.items() for value in values}

    def level(value: str) -> str | None:
        return level_of.get(plain_cell(value), None if means_unknown(value) else rest)

    def to_level(raw: pd.Series) -> pd.Series:
        return raw.map(level, na_action="ignore")

    every = dict.fromkeys([*levels, *([rest] if rest else [])])
    return Attribute(name, column, tuple(every), to_level)


def sex_attribute(column: str) -> Attribute:
    """Return the attribute ``sex``, from a column of words or their first letters."""
    return attribute_by_level("sex", column, {"female": ("female", "f"), "male": ("male", "m")})


def race_attribute(name: str, column: str) -> Attribute:
    """Return an attribute of race, from the words that hospitals write.

    "White, non-Hispanic" and "WHITE - RUSSIAN" are White. Refused answers are unknown.
    """
    levels = (*(level for level, _ in _RACES), "Other")

    def to_level(raw: pd.Series) -> pd.Series:
        return raw.map({text: _race(text) for text in raw.dropna().unique()})

    return Attribute(name, column, levels, to_level)


def white_attribute(name: str, column: str) -> Attribute:
    """Return an attribute with the levels White and non-White, by the rule of `race_attribute`."""
    by_race = race_attribute(name, column)
    level_of = dict.fromkeys(by_race.levels, "non-White") | {"White": "White"}
    return Attribute(
        name, column, ("White", "non-White"), lambda raw: by_race.to_level(raw).map(level_of)
    )


def attribute_of_values(name: str, column: str, raw: pd.Series) -> Attribute:
    """Return an attribute whose levels are the values that occur, ordered by `level_order`.

    Blank values and values that mean unknown ("not specified", "refused", "?", "*") are no levels.
    """
    values = sorted({str(value) for value in raw.dropna().unique()}, key=level_order)
    return attribute_by_value(
        name, column, {value: value for value in values if not means_unknown(value)}
    )


def read_groups(values: Any, name: str, others: Iterable[str] = ()) -> pd.Series:
    """Return the groups in a column of any type, read as from a table; unknown ones are missing.

    Parameters
    ----------
    values
        The group of each row, as an array ``(n,)`` or a Series.
    name
        The name of the groups, for messages.
    others
        Groups of other rows, with whose spelling these must agree.

    Raises
    ------
    EvenhandError
        If a value is a list, a record, too long or no valid text, or a group has several spellings.

    Examples
    --------
    >>> read_groups(np.array([1.0, 2, None, "f ", "NA", "?"], dtype=object), "groups").tolist()
    ['1', '2', nan, 'f', nan, nan]
    """
    is_object = str(getattr(values, "dtype", "")) == "object"
    if is_object and any(isinstance(value, list | tuple | dict | set) for value in values):
        raise EvenhandError(f"{name}: there are lists or records; give one name for each row.")
    with refuse_no_text(name):
        text = read_column(pd.Series(values))
    names = text.dropna().unique()
    if any(len(part) > LONGEST for group in names for part in attribute_parts(group)):
        raise EvenhandError(
            f"{name}: a name has more than {LONGEST} characters, too many for the name of a group. "
            "Give a column that groups people."
        )
    text = text.mask(text.isin([group for group in names if means_unknown(group)]))
    refuse_group_spellings(name, count_values(text))
    groups = whole_numbers(text)  # as the others are
    refuse_group_spellings(name, dict.fromkeys(others, 0) | count_values(groups))
    return groups


def means_unknown(text: str) -> bool:
    """Return whether a text means that a value is unknown or withheld.

    Examples
    --------
    >>> means_unknown("Not specified"), means_unknown("*"), means_unknown("60+")
    (True, True, False)
    """
    return _UNKNOWN_TEXTS.search(text.casefold()) is not None


def attribute_parts(attribute: str) -> tuple[str, ...]:
    """Return the attributes of an intersection: sex and age for ``sex*age``."""
    return tuple(attribute.split("*"))


def with_intersections(attributes: Sequence[str], depth: int) -> tuple[str, ...]:
    """Return attributes, and the intersections of 2 to ``depth`` of their parts.

    Conditioned attributes (``sex|site``) are not combined. Intersections that ``attributes`` has
    already, in any order, are not repeated.

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
    parts = list(dict.fromkeys(part for name in plain_names for part in attribute_parts(name)))
    if depth > 1 and len(parts) < 2:
        raise EvenhandError(
            f"--intersections {depth} needs two attributes or more, and there is only "
            f"{', '.join(parts)}. Name others with --attribute, or leave --intersections out."
        )
    present = {frozenset(attribute_parts(name)) for name in plain_names}
    crossed = (
        combination
        for size in range(2, depth + 1)
        for combination in combinations(parts, size)
        if frozenset(combination) not in present
    )
    return (*attributes, *map("*".join, crossed))


def group_of(
    table: pd.DataFrame, attribute: str, levels: Mapping[str, tuple[str, ...]]
) -> pd.Series:
    """Return the group of each row, for an attribute or for an intersection such as ``sex*age``.

    Parameters
    ----------
    table
        A table with a column ``attr_<name>`` for each attribute.
    attribute
        The name of an attribute, or several with ``*`` between them.
    levels
        The levels of each attribute, in order.

    Returns
    -------
    pandas.Series
        Categorical groups, with the index of ``table``. The categories are all combinations of
        levels in order (``female*60+``), then ``unknown``, the group of rows with an unknown part.

    Raises
    ------
    UnknownNameError
        If there is no such attribute.
    """
    parts = attribute_parts(attribute)
    levels_of_parts = [pick("attribute", part, levels) for part in parts]
    names = ["*".join(combination) for combination in product(*levels_of_parts)]
    group = table[f"attr_{parts[0]}"].astype("str")
    for part in parts[1:]:
        group = group + "*" + table[f"attr_{part}"].astype("str")
    every = pd.CategoricalDtype([*names, UNKNOWN])
    codes = pd.Index(every.categories).get_indexer(group)
    codes[codes < 0] = len(names)
    categories = pd.Categorical.from_codes(codes, dtype=every)
    return pd.Series(categories, index=table.index, name=attribute)


def _race(text: str) -> str | None:
    """Return the level of race that a text means; None if it means unknown."""
    if means_unknown(text):
        return None
    words = text.casefold()
    return next((level for level, pattern in _RACES if pattern.search(words)), "Other")
