"""Bins of numeric attributes: where groups of a number begin, and columns that need them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.attributes import UNKNOWN, Attribute, untold
from evenhand.errors import EvenhandError, some
from evenhand.wording import flag

FEW = 10
"""A numeric column with more distinct values than these is a measurement: it needs bins."""


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


def is_measurement(raw: pd.Series) -> bool:
    """Tell whether a column holds numbers that are no levels: too many of them."""
    number = pd.to_numeric(raw.dropna(), errors="coerce")
    return bool(number.notna().all()) and number.nunique() > FEW


def refuse_measurement(name: str, raw: pd.Series, source: Path) -> None:
    """Refuse an attribute whose column is a measurement, as nobody has said where groups begin.

    Raises
    ------
    EvenhandError
        It is one (see ``is_measurement``).
    """
    if is_measurement(raw):
        number = pd.to_numeric(raw)
        raise EvenhandError(
            f"{source}: {name!r} is a number with {number.nunique()} values from {number.min():g} "
            f"to {number.max():g}; say where its groups begin, as in {flag('bins', f'{name}=60')}."
        )


def refuse_words(name: str, raw: pd.Series, source: Path) -> None:
    """Refuse to bin an attribute whose column has words in it, as one that holds levels has.

    Raises
    ------
    EvenhandError
        A value is neither a number nor said to be unknown.
    """
    values = pd.Series(raw.dropna().unique())
    words = values[pd.to_numeric(values, errors="coerce").isna()]
    if levels := sorted(word for word in words if not untold(word)):
        raise EvenhandError(
            f"{source}: {name!r} has values that are no numbers ({some(levels)}), and bins are of "
            "numbers. Leave its --bins out to take the values as levels, or write numbers, and "
            "nothing where none is known."
        )


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
