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

UNKNOWN = "unknown"

Excluded = Mapping[str, Collection[str]]
"""Levels that take no part in gaps, worst groups or objectives, by attribute."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The level that each sample has of one attribute.

    Attributes
    ----------
    codes
        ``(n,)`` positions in ``levels``; -1 for a sample that is not looked at (see `within`).
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
        """The positions of the samples of every level, by one pass over them."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.searchsorted(self.codes[order], np.arange(len(self.levels) + 1))
        return {
            level: order[ends[number] : ends[number + 1]]
            for number, level in enumerate(self.levels)
        }

    @property
    def sizes(self) -> NDArray[np.intp]:
        """The number of samples of each level, in the order of ``levels``."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.levels))

    def compared(self, excluded: Collection[str] = ()) -> tuple[str, ...]:
        """Return the levels that gaps and worst groups are taken over.

        These are all levels, with samples or without, but ``"unknown"`` and the excluded ones.
        """
        return tuple(level for level in self.levels if level not in {UNKNOWN, *excluded})

    def without(self, excluded: Collection[str]) -> Groups:
        """Return the groups without some levels, whose samples are not looked at any more.

        Examples
        --------
        >>> groups_of(["b", "a", "c"]).without({"b"})
        Groups(codes=array([-1,  0,  1]), levels=('a', 'c'))
        """
        kept = tuple(level for level in self.levels if level not in excluded)
        codes = [kept.index(level) if level in kept else -1 for level in self.levels]
        return Groups(np.array([*codes, -1])[self.codes], kept)  # the last is that of code -1


def groups_of(levels: pd.Series[Any] | Sequence[str]) -> Groups:
    """Code a column of level names; a categorical column keeps its order and its empty levels.

    Raises
    ------
    EvenhandError
        A value is missing: a sample whose level is not known belongs to ``"unknown"``.

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
            f"the level at position {row} is missing; name it {UNKNOWN!r} where it is not known."
        )
    return Groups(codes, tuple(map(str, column.cat.categories)))


def attribute_groups(attribute: str, levels: pd.Series[Any] | Sequence[str]) -> Groups:
    """Code the groups of an attribute; of an intersection (``sex*age``), only those that occur.

    A level without samples stays a group of its attribute. A combination of levels without samples
    is dropped, as nobody declared it.

    Raises
    ------
    EvenhandError
        As for `groups_of`.

    Examples
    --------
    >>> column = pd.Categorical(["f*old"], categories=["f*old", "m*old"])
    >>> attribute_groups("sex*age", column).levels
    ('f*old',)
    """
    return occurring(attribute, groups_of(levels))


def occurring(attribute: str, groups: Groups) -> Groups:
    """Return groups without the empty combinations of an intersection; other groups all stay."""
    if "*" not in attribute:
        return groups
    sized = zip(groups.levels, groups.sizes, strict=True)
    return groups.without([level for level, size in sized if not size])


def within(attribute: str, groups: Groups, by: str, control: Groups) -> dict[str, Groups]:
    """Return the groups of an attribute within each level of another, the control.

    The new attributes are named ``"sex|site=A"`` and so on. Compared so, a difference between
    groups is not one between the sites that they go to.

    Examples
    --------
    >>> within("sex", groups_of(["f", "m"]), "site", groups_of(["A", "A"]))["sex|site=A"].levels
    ('f', 'm')
    """
    return {
        f"{attribute}|{by}={level}": Groups(
            np.where(control.codes == number, groups.codes, -1), groups.levels
        )
        for number, level in enumerate(control.levels)
    }


def excluded_groups(texts: Iterable[str], groups: Mapping[str, Groups]) -> dict[str, set[str]]:
    """Read exclusions as the command line gives them, ``"age=under 20"``.

    Raises
    ------
    EvenhandError
        There is no ``=``, no such attribute, or the attribute has no such level.

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
    """Yield attribute and level of texts such as ``"age=under 20"``.

    Raises
    ------
    EvenhandError
        There is no ``=``, no such attribute, or the attribute has no such level.
    """
    attributes = {name.partition("|")[0]: levels for name, levels in groups.items()}
    for text in texts:
        attribute, equals, level = text.partition("=")
        if not equals:
            raise EvenhandError(f"{text!r} names no group; write ATTRIBUTE=LEVEL, as in age=60+.")
        levels = pick("attribute", attribute, attributes).levels
        pick(f"level of {attribute}", level, dict.fromkeys(levels))
        yield attribute, level
