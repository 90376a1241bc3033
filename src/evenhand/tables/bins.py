"""Divide numeric attributes into bins, and refuse columns of numbers without bins."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, first_few, flag_text
from evenhand.tables.attributes import UNKNOWN, Attribute, means_unknown
from evenhand.tables.table_checks import refuse_rows

FEW = 10
"""A column with more distinct numbers than this is a measurement, which needs bins."""

_DATE = (
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([ T].*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([ T].*)?"
)
_WITH_UNIT = (
    r"(?i)[+-]?\d+([.,]\d+)?\s*"
    r"(y|yo|yrs?\.?|years?( old)?|m|mo|months?|w|weeks?|d|days?|cm|mm|kg|%)"
)
_AT_LEAST = re.compile(r"(>=|≥|>)\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*\+")


def attribute_by_bins(
    name: str, column: str, edges: Sequence[float], *, edge_below: bool = False
) -> Attribute:
    """Return an attribute whose levels are intervals of a number.

    Values such as "90+", ">=90", "≥90" and ">89" belong to the last bin if it begins at that number
    or below; otherwise they are unknown.

    Parameters
    ----------
    name, column
        See ``Attribute``.
    edges
        The limits between bins: at least one, finite, increasing.
    edge_below
        Whether a value equal to an edge belongs to the bin below the edge instead of above.

    Raises
    ------
    EvenhandError
        If the edges are not increasing finite numbers.

    Examples
    --------
    >>> attribute_by_bins("age", "age", (20, 40, 60, 80)).levels
    ('under 20', '20-39', '40-59', '60-79', '80+')
    >>> attribute_by_bins("age", "age", (60, 75), edge_below=True).levels
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
        number, exact = read_numbers(raw)
        index = np.searchsorted(np.asarray(edges, float), number, "left" if edge_below else "right")
        certain = np.isfinite(number) & (exact | (index == len(edges)))
        names = np.array([*levels, UNKNOWN])
        return pd.Series(names[np.where(certain, index, len(levels))], index=raw.index)

    return Attribute(name, column, levels, to_level, numeric=True)


@dataclass(frozen=True)
class NumericBins:
    """The bins of a numeric attribute; see `attribute_by_bins`."""

    edges: tuple[float, ...]
    edge_below: bool = False

    def attribute(self, name: str, column: str) -> Attribute:
        """Return the attribute with these bins."""
        return attribute_by_bins(name, column, self.edges, edge_below=self.edge_below)


def parse_bins(texts: Sequence[str]) -> dict[str, NumericBins]:
    """Return the bins of each attribute from texts such as ``age=20,40,60,80``.

    ``age=60`` gives the bins "under 60" and "60+"; ``age<=60`` gives "up to 60" and "over 60".

    Raises
    ------
    EvenhandError
        If a text does not have that form, or an attribute occurs twice.

    Examples
    --------
    >>> parse_bins(["age<=60", "bmi=18.5,25"])["age"]
    NumericBins(edges=(60.0,), edge_below=True)
    """
    bins: dict[str, NumericBins] = {}
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
        bins[name] = NumericBins(edges, edge_below)
    return bins


def is_measurement(raw: pd.Series) -> bool:
    """Return whether most values of a column are numbers, with more than `FEW` different ones.

    Values that mean unknown are not counted.
    """
    rows = raw.value_counts()
    number, _ = read_numbers(rows.index.to_series())
    is_number = ~np.isnan(number)
    return _is_majority(rows, is_number) and len(np.unique(number[is_number])) > FEW


def _is_majority(rows: pd.Series, marked: NDArray[np.bool_]) -> bool:
    """Return whether most rows with a known value have one of the marked values."""
    has_value = [not means_unknown(str(value)) for value in rows.index]
    return bool(2 * rows[marked].sum() > rows[has_value].sum())


def refuse_measurement(name: str, raw: pd.Series, source: Path) -> None:
    """Refuse an attribute whose column is a measurement, because it has no bins.

    Raises
    ------
    EvenhandError
        If the column is a measurement (see ``is_measurement``), or most values are many different
        dates or text such as "63 years".
    """
    if is_measurement(raw):
        number = pd.Series(read_numbers(raw)[0])
        raise EvenhandError(
            f"{source}: {name!r} is a number with {number.nunique()} values from {number.min():g} "
            f"to {number.max():g}; give bins for it, as in {flag_text('bins', f'{name}=60')}."
        )
    rows = raw.value_counts()
    texts = pd.Series(rows.index.astype("str"), dtype="str")
    for pattern, what, instead in (
        (_DATE, "dates", "the years at the time of the sample"),
        (_WITH_UNIT, "numbers with their unit", "the numbers alone"),
    ):
        marked = texts.str.fullmatch(pattern).to_numpy(np.bool_)
        if marked.sum() > FEW and _is_majority(rows, marked):
            raise EvenhandError(
                f"{source}: {name!r} holds {what}, {marked.sum()} different ones, as in "
                f"{first_few(texts[marked][:2])}. Write {instead}, and give bins, as in "
                f"{flag_text('bins', f'{name}=60')}."
            )


def refuse_unbinned(raw: pd.Series, rule: Attribute, source: Path) -> None:
    """Refuse rows whose value is known but belongs to no bin.

    Parameters
    ----------
    raw
        The column, indexed by the row as ``read_table`` counts it.
    rule
        The attribute with its bins.
    source
        The table.

    Raises
    ------
    EvenhandError
        If there are such rows; the message names the first few.
    """
    unbinned = raw[(rule.levels_of(raw) == UNKNOWN) & raw.notna()].astype("str")
    has_value = ~unbinned.map(means_unknown).astype("bool")
    problem = (
        f"the {rule.name!r} is in none of the bins {', '.join(rule.levels)}: "
        f"{first_few(unbinned[has_value].unique())}. Write a number (or 90+ or >89, if the last "
        "bin begins at that number or below), and nothing if the number is unknown; or leave "
        "--bins out to take the values as levels."
    )
    refuse_rows(has_value, source, problem)


def read_numbers(raw: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the number of each value (NaN if it has none), and whether it is exact.

    The number of "90+" is 90, and is not exact.

    Examples
    --------
    >>> number, exact = read_numbers(pd.Series(["63", "90+", "old"]))
    >>> number.tolist(), exact.tolist()
    ([63.0, 90.0, nan], [True, False, False])
    """
    number = pd.to_numeric(raw, errors="coerce").to_numpy(float, na_value=np.nan)
    exact = ~np.isnan(number)
    least = [
        math.nan if is_exact else _lower_limit(str(text))
        for text, is_exact in zip(raw, exact, strict=True)
    ]
    return np.where(exact, number, least), exact


def _lower_limit(text: str) -> float:
    """Return the smallest number that text such as "90+", ">=90" or ">89" allows, else NaN."""
    match = _AT_LEAST.fullmatch(text)
    if match is None:
        return math.nan
    number = float(match[2] or match[3])
    return math.nextafter(number, math.inf) if match[1] == ">" else number


def _edge_text(edge: float) -> str:
    return str(int(edge)) if float(edge).is_integer() else str(edge)


def _bins_above(edges: Sequence[float]) -> tuple[str, ...]:
    between = (_interval_name(low, high) for low, high in pairwise(edges))
    return (f"under {_edge_text(edges[0])}", *between, f"{_edge_text(edges[-1])}+")


def _bins_below(edges: Sequence[float]) -> tuple[str, ...]:
    between = (
        _interval_name(low + 1, high + 1)
        if _is_whole(low) and _is_whole(high)
        else f">{_edge_text(low)} to {_edge_text(high)}"
        for low, high in pairwise(edges)
    )
    return (f"up to {_edge_text(edges[0])}", *between, f"over {_edge_text(edges[-1])}")


def _is_whole(edge: float) -> bool:
    return float(edge).is_integer() and edge >= 0


def _interval_name(low: float, high: float) -> str:
    """Return the name of a bin: "20-39" for whole numbers 20 and 40, else "18.5 to <25"."""
    if not (_is_whole(low) and _is_whole(high)):
        return f"{_edge_text(low)} to <{_edge_text(high)}"
    return _edge_text(low) if high - low == 1 else f"{_edge_text(low)}-{_edge_text(high - 1)}"
