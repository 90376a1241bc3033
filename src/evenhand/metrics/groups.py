"""Groups of samples by the levels of a protected attribute."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, pick
from evenhand.tables.attributes import UNKNOWN

Excluded = Mapping[str, Collection[str]]
"""By attribute: the levels that take no part in gaps, worst groups or targets."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The level that each sample has of one attribute.

    Attributes
    ----------
    codes
        ``(n,)`` positions in ``levels``; -1 for a sample that is ignored (see `within`).
    levels
        Names of the levels in the order in which they are shown; ``"unknown"`` may be among them.
    """

    codes: NDArray[np.intp]
    levels: tuple[str, ...]

    def rows(self, level: str) -> NDArray[np.intp]:
        """Return the positions of the samples of a level."""
        return self._rows[level]

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.intp]]:
        """By level, the positions of its samples; all levels in one pass."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.searchsorted(self.codes[order], np.arange(len(self.levels) + 1))
        return {
            level: order[ends[index] : ends[index + 1]] for index, level in enumerate(self.levels)
        }

    @property
    def sizes(self) -> NDArray[np.intp]:
        """The number of samples of each level, in the order of ``levels``."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.levels))

    def compared(self, excluded: Collection[str] = ()) -> tuple[str, ...]:
        """Return the levels that gaps and worst groups are taken over.

        These are all levels except ``"unknown"`` and the excluded levels. Levels without samples
        are included.
        """
        return tuple(level for level in self.levels if level not in {UNKNOWN, *excluded})

    def without(self, excluded: Collection[str]) -> Groups:
        """Return the groups without some levels; the samples of these levels are then ignored.

        Examples
        --------
        >>> groups_of(["b", "a", "c"]).without({"b"})
        Groups(codes=array([-1,  0,  1]), levels=('a', 'c'))
        """
        levels = tuple(level for level in self.levels if level not in excluded)
        code = {level: index for index, level in enumerate(levels)}
        codes = [*(code.get(level, -1) for level in self.levels), -1]  # the last entry: for code -1
        return Groups(np.array(codes)[self.codes], levels)

    def without_empty_unknown(self) -> Groups:
        """Return the groups without ``"unknown"`` if no sample is unknown, else unchanged."""
        occurs = UNKNOWN not in self.levels or self.rows(UNKNOWN).size
        return self if occurs else self.without({UNKNOWN})


def groups_of(levels: pd.Series[Any] | Sequence[str]) -> Groups:
    """Return the groups of a column of level names, sorted by name.

    A categorical column keeps the order of its categories, also those without samples.

    Raises
    ------
    EvenhandError
        If a value is missing. Samples whose level is not known have the level ``"unknown"``.

    Examples
    --------
    >>> groups_of(["b", "a", "b"]).levels
    ('a', 'b')
    """
    column = pd.Series(levels)
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(pd.CategoricalDtype(sorted(column.dropna().unique())))
    codes = np.asarray(column.cat.codes, dtype=np.intp)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise EvenhandError(
            f"the level at position {row} is missing; write {UNKNOWN!r} where it is not known."
        )
    return Groups(codes, tuple(map(str, column.cat.categories)))


def attribute_groups(attribute: str, levels: pd.Series[Any] | Sequence[str]) -> Groups:
    """Return the groups of an attribute or of an intersection of attributes (``sex*age``).

    A level of an attribute without samples stays a group. A combination of levels without samples
    is dropped.

    Raises
    ------
    EvenhandError
        If a value is missing, as for `groups_of`.

    Examples
    --------
    >>> column = pd.Categorical(["f*old"], categories=["f*old", "m*old"])
    >>> attribute_groups("sex*age", column).levels
    ('f*old',)
    """
    return occurring(attribute, groups_of(levels))


def occurring(attribute: str, groups: Groups) -> Groups:
    """Return groups without the empty combinations of an intersection; others are unchanged."""
    if "*" not in attribute:
        return groups
    sized = zip(groups.levels, groups.sizes, strict=True)
    return groups.without([level for level, size in sized if not size])


def within(attribute: str, groups: Groups, by: str, control: Groups) -> dict[str, Groups]:
    """Return the groups of an attribute within each level of another attribute, the control.

    The new attributes are named ``"sex|site=A"``, ``"sex|site=B"`` … A difference between their
    groups cannot come from a difference between the sites.

    Parameters
    ----------
    attribute, groups
        The attribute and the level of each sample.
    by, control
        The control attribute and the level of each sample.

    Examples
    --------
    >>> within("sex", groups_of(["f", "m"]), "site", groups_of(["A", "A"]))["sex|site=A"].levels
    ('f', 'm')
    """
    return {
        f"{attribute}|{by}={level}": Groups(
            np.where(control.codes == index, groups.codes, -1), groups.levels
        )
        for index, level in enumerate(control.levels)
    }


def excluded_groups(texts: Iterable[str], groups: Mapping[str, Groups]) -> dict[str, set[str]]:
    """Return the excluded levels by attribute, from texts such as ``"age=under 20"``.

    Raises
    ------
    EvenhandError
        If a text has no ``=``, or names an attribute or level that does not exist.

    Examples
    --------
    >>> excluded_groups(["sex=f"], {"sex": groups_of(["f", "m"])})
    {'sex': {'f'}}
    """
    excluded: dict[str, set[str]] = {}
    for attribute, level in named_groups(texts, groups):
        excluded.setdefault(attribute, set()).add(level)
    return excluded


def named_groups(texts: Iterable[str], groups: Mapping[str, Groups]) -> Iterator[tuple[str, str]]:
    """Yield attribute and level of each text, such as ``"age=under 20"``.

    Raises
    ------
    EvenhandError
        If a text has no ``=``, or names an attribute or level that does not exist.
    """
    attributes = {name.partition("|")[0]: levels for name, levels in groups.items()}
    for text in texts:
        attribute, equals, level = text.partition("=")
        if not equals:
            raise EvenhandError(f"{text!r} is no group; write ATTRIBUTE=LEVEL, as in age=60+.")
        levels = pick("attribute", attribute, attributes).levels
        pick(f"level of {attribute}", level, dict.fromkeys(levels))
        yield attribute, level
