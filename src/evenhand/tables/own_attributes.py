"""Read attributes from a user's own table: refuse impossible values, and note unlikely ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, count_text, first_few, flag_text
from evenhand.tables.attributes import (
    LONGEST,
    Attribute,
    attribute_of_values,
    likely_unknown,
    means_unknown,
    ranges_as_dates,
)
from evenhand.tables.bins import FEW, NumericBins, read_numbers, refuse_measurement, refuse_unbinned
from evenhand.tables.spelling import (
    abbreviations,
    join_values,
    merge_line,
    refuse_spellings,
    whole_numbers,
)
from evenhand.tables.table_checks import refuse_rows, rows_text
from evenhand.tables.values import ValueRules

OLDEST = 120
"""The highest age in years that is accepted."""

SHIFTED = (300.0, 330.0)
"""The range of ages that MIMIC-III writes for patients of 90 years and over."""

# Names of attributes of which a person has only one value.
_PERSONAL = re.compile(r"(^|_)(sex|gender|race|ethnicity|ethnic_group)(_|$)")
_AGE = re.compile(r"(^|_)ages?(_|$)")
_NOT_YEARS = re.compile("month|week|day|hour|minute|gestation|group|bin|bone")
_LISTS = r"""\[\s*['"].*\]|\{.*:.*\}"""  # but not intervals such as [0, 10)
_MOST_VARYING = 0.2  # if it varies within a larger share of patients, it describes samples


@dataclass(frozen=True, eq=False)
class OwnAttribute:
    """An attribute of a user's own table.

    Attributes
    ----------
    rule
        The rule from raw values to levels.
    raw
        The column of raw values, after the user's rules for values.
    notes
        Sentences about implausible values.
    """

    rule: Attribute
    raw: pd.Series
    notes: tuple[str, ...]


def read_own_attribute(
    name: str,
    raw: pd.Series,
    patients: pd.Series,
    source: Path,
    bins: NumericBins | None,
    values: ValueRules,
) -> OwnAttribute:
    """Read an attribute; refuse columns that cannot be one.

    Parameters
    ----------
    name
        The name of the attribute.
    raw
        The column, as text, indexed by the row of ``source``.
    patients
        The patient of each row.
    source
        The path of the table, for messages.
    bins
        The bins of a numeric attribute; None if the values are levels.
    values
        The user's rules for values.

    Raises
    ------
    EvenhandError
        If the column holds impossible ages, numbers or dates without bins, one value in several
        spellings, about as many levels as patients, or several values of one patient although the
        attribute describes a person.
    """
    raw = values.apply(name, raw)
    impossible = impossible_ages(name, raw)
    shown = join_values(raw[impossible].unique())
    problem = (
        f"the {name!r} is {first_few(raw[impossible].unique())}, which is no age of a person (0 to "
        f"{OLDEST}, or 300 for 90 and over, as MIMIC writes it). Correct it, or mark it as "
        f"unknown: {flag_text('unknown-value', f'{name}={shown}')}"
    )
    refuse_rows(pd.Series(impossible, raw.index), source, problem)
    if bins is not None:
        rule = bins.attribute(name, str(raw.name))
        refuse_unbinned(raw, rule, source)
        return OwnAttribute(rule, raw, tuple(_old_notes(name, raw)))
    refuse_measurement(name, raw, source)
    levels = attribute_of_values(name, str(raw.name), raw).levels
    # Before conflicts, because two spellings of a value are no conflict.
    refuse_spellings(name, raw[raw.isin(levels)], source)
    raw = whole_numbers(raw)
    raw, differing = settle_conflicts(name, raw, patients, source, values.conflicts.get(name))
    rule = attribute_of_values(name, str(raw.name), raw)
    _refuse_dates(rule, raw, source)
    _refuse_long_names(name, raw, source)
    _refuse_unfilled(rule, raw, patients, source)
    return OwnAttribute(rule, raw, (*differing, *_level_notes(name, raw, rule)))


def impossible_ages(name: str, raw: pd.Series) -> NDArray[np.bool_]:
    """Return whether each value is an impossible age in years, or an infinite number.

    Examples
    --------
    >>> impossible_ages("Age", pd.Series(["-1", "63", "300", "999", "90+"])).tolist()
    [True, False, False, True, False]
    >>> impossible_ages("bmi", pd.Series(["-1", "inf"])).tolist()
    [False, True]
    """
    which, values = pd.factorize(raw, use_na_sentinel=False)
    number, _ = read_numbers(pd.Series(values))
    impossible = np.isinf(number)
    if _in_years(name):
        shifted = (number >= SHIFTED[0]) & (number < SHIFTED[1])
        impossible |= (number < 0) | ((number > OLDEST) & ~shifted)
    marked: NDArray[np.bool_] = impossible[which]
    return marked


def settle_conflicts(
    name: str, raw: pd.Series, patients: pd.Series, source: Path, how: str | None
) -> tuple[pd.Series, tuple[str, ...]]:
    """Give patients with several values one value; return the column, and notes on these patients.

    Parameters
    ----------
    how
        The user's rule for patients with several values, from ``CONFLICTS``; or None.

    Raises
    ------
    EvenhandError
        If patients have several values of an attribute of persons, and ``how`` is None.
    """
    unknown = [value for value in raw.dropna().unique() if means_unknown(value)]
    values = raw[raw.notna() & ~raw.isin(unknown)]
    owner = patients[values.index] if len(values) < len(raw) else patients
    several = _with_several(values, owner)
    if how == "keep" or not len(several):
        return raw, ()
    differing = patients.isin(several)
    if how is not None:
        counts = {} if how == "unknown" else _majority(values[owner.isin(several)], owner)
        return raw.where(~differing, patients.map(counts).astype("str")), ()
    example = f"{several[0]}: {' and '.join(sorted(values[owner == several[0]].unique()))}"
    who = f"{count_text(len(several), 'patient')} with several values of {name!r} ({example})"
    are = "is" if len(several) == 1 else "are"
    line = flag_text("conflict", f"{name}=majority")
    if _PERSONAL.search(_snake_case(name)):
        raise EvenhandError(
            f"{source}, {rows_text(raw.index[differing])}: there {are} {who}. "
            f"Correct them, or choose a rule: {line} (the most frequent value; unknown if two are "
            f"equally frequent), {name}=unknown, or {name}=keep (each row keeps its own)."
        )
    repeated = int((owner.value_counts() > 1).sum())
    if len(several) > _MOST_VARYING * repeated:
        return raw, ()
    return raw, (
        f"There {are} {who}, in {rows_text(raw.index[differing])} of {source}. "
        f"If a patient can have one value only, choose a rule: {line}.",
    )


def _with_several(values: pd.Series, owner: pd.Series) -> pd.Index:
    """Return the sorted owners of more than one value."""
    value, _ = pd.factorize(values)
    who, owners = pd.factorize(owner)
    first = np.zeros(len(owners), np.intp)
    first[who[::-1]] = value[::-1]  # reversed, so that each owner's first row is written last
    several: pd.Index = pd.Index(owners[np.unique(who[value != first[who]])]).sort_values()
    return several


def _majority(values: pd.Series, owner: pd.Series) -> dict[str, str]:
    """Return patient → most frequent value, for patients without a tie."""
    counts = (
        values.groupby([owner.loc[values.index], values]).size().rename("n").reset_index(level=1)
    )
    first = counts["n"] == counts.groupby(level=0)["n"].transform("max")
    best = counts[first]
    best = best[~best.index.duplicated(keep=False)]
    return dict(zip(best.index, best[values.name], strict=True))


def _refuse_long_names(name: str, raw: pd.Series, source: Path) -> None:
    """Refuse long texts, lists and records as levels."""
    levels = pd.Series(raw.dropna().unique(), dtype="str")  # each value once
    refuse_rows(
        raw.isin(levels[levels.str.len() > LONGEST]),
        source,
        f"the {name!r} has more than {LONGEST} characters, too many for the name of a group. Name "
        "a column that groups people.",
    )
    lists = raw.isin(levels[levels.str.fullmatch(_LISTS)])
    shown = first_few(raw[lists].unique()[:1])
    problem = f"the {name!r} holds lists or records, as in {shown}. Write one value in each row."
    refuse_rows(lists, source, problem)


def _refuse_dates(rule: Attribute, raw: pd.Series, source: Path) -> None:
    """Refuse ranges of numbers that a spreadsheet has turned into dates."""
    ranges = ranges_as_dates(rule.levels)
    shown = first_few(f"{date!r} was most likely {range_!r}" for date, range_ in ranges.items())
    refuse_rows(
        raw.isin([*ranges]),
        source,
        f"the {rule.name!r} is a date, while other rows have ranges of numbers. A spreadsheet has "
        f"turned a range into a date: {shown}. Write the ranges again, in a column of the format "
        "text.",
    )


def _refuse_unfilled(rule: Attribute, raw: pd.Series, patients: pd.Series, source: Path) -> None:
    """Refuse an attribute if most of its levels have a single patient."""
    if len(rule.levels) <= FEW:
        return
    has_level = raw.isin(rule.levels)
    counts = patients[has_level].groupby(raw[has_level]).nunique()
    single = int((counts == 1).sum())
    if 2 * single > len(counts):
        raise EvenhandError(
            f"{source}: the attribute {rule.name!r} has {len(counts)} levels, as in "
            f"{first_few(counts.index[:2])}, and {single} of them have one patient each: no metric "
            "can be computed for a group of one patient. Name a column that groups people; from "
            "dates or free text, make such a column first."
        )


def _level_notes(name: str, raw: pd.Series, rule: Attribute) -> Iterator[str]:
    counts = {str(value): int(count) for value, count in raw.value_counts().items()}
    if codes := likely_unknown(rule.levels):
        shown = ", ".join(f"{code!r} ({counts[code]} rows)" for code in codes)
        line = flag_text("unknown-value", f"{name}={join_values(codes)}")
        yield f"{name!r} has levels that often stand for unknown: {shown}. If so, give {line}"
    if pairs := abbreviations({level: counts[level] for level in rule.levels}):
        shown = first_few(f"{word!r} and {letter!r}" for word, letter in pairs)
        yield (
            f"{name!r} has words and their first letters as values: {shown}. If these mean the "
            f"same, give {merge_line(name, pairs)}"
        )


def _old_notes(name: str, raw: pd.Series) -> Iterator[str]:
    if not _in_years(name):
        return
    number, _ = read_numbers(raw)
    old = (number >= SHIFTED[0]) & (number < SHIFTED[1])
    if old.any():
        yield (
            f"{name!r} is {number[old].min():g} to {number[old].max():g} in "
            f"{count_text(int(old.sum()), 'row')}: taken as 90 and over, as MIMIC writes it."
        )


def _in_years(name: str) -> bool:
    words = _snake_case(name)
    return _AGE.search(words) is not None and _NOT_YEARS.search(words) is None


def _snake_case(name: str) -> str:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z]+", "_", parted.casefold())
