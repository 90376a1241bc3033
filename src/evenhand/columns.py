"""How a predictions table that was made elsewhere is read: its columns, scores and attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.attributes import UNKNOWN, distinct, parts_of
from evenhand.cohort.bins import Bins, refuse_measurement, refuse_unbinned
from evenhand.cohort.refusals import refuse_rows
from evenhand.errors import EvenhandError, some


@dataclass(frozen=True)
class Columns:
    """How to read a table that Evenhand has not written.

    Of its own tables nothing is renamed, and no score is a logit.

    Attributes
    ----------
    attributes
        Attributes to look for; ``age`` means the column ``attr_age``, else ``age``.
    bins
        Bins of numeric attributes (see `evenhand.cohort.bins.parse_bins`).
    renamed
        The column in the file of each column of the contract: ``{"label": "y_true"}``.
    logits
        Whether the scores are logits, which are then turned into probabilities.
    """

    attributes: tuple[str, ...] = ()
    bins: Mapping[str, Bins] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    logits: bool = False


CONTRACT = ("sample_id", "patient_id", "split", "label", "score")
"""What columns are called, beside ``score_0`` … of several classes and ``attr_NAME``."""


def score_columns(n_classes: int) -> tuple[str, ...]:
    """Return the names of the score columns for a number of classes."""
    if n_classes == 2:
        return ("score",)
    return tuple(f"score_{number}" for number in range(n_classes))


def class_numbers(n_classes: int) -> tuple[str, ...]:
    """Return what classes are called where nobody has named them."""
    return tuple(map(str, range(n_classes)))


def rename_columns(table: pd.DataFrame, renamed: Mapping[str, str], path: Path) -> pd.DataFrame:
    """Return a table with more columns, under names of the contract (see `Columns.renamed`).

    Raises
    ------
    EvenhandError
        There is no such column.
    """
    absent = [given for given in renamed.values() if given not in table]
    if absent:
        raise EvenhandError(f"{path} has no column {some(absent)}; it has: {_names(table)}.")
    return table.assign(**{name: table[given] for name, given in renamed.items()})


def checked_columns(
    raw: pd.DataFrame, path: Path, logits: bool
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the columns that are no attributes, typed, and the classes by number.

    Raises
    ------
    EvenhandError
        A column is absent, or a cell is blank or no number.
    """
    scores = _scores_in(raw)
    needed = ("sample_id", "patient_id", "label", *scores)
    absent = [name for name in needed if name not in raw]
    if absent:
        raise EvenhandError(
            f"{path} has no column {', '.join(map(repr, absent))}; it has: {_names(raw)}. "
            f"Name the column that is meant with --map {absent[0]}=COLUMN (where each sample is a "
            "patient of its own, --map patient_id=sample_id)."
        )
    ids = ["sample_id", "patient_id", *(["split"] if "split" in raw else [])]
    for name in ids:
        refuse_rows(raw[name].isna(), path, f"{name} is missing.")
    table = raw[ids].astype("str")
    table["label"] = _numbers(raw["label"], path, whole=True).astype(np.int64)
    values = np.stack([_numbers(raw[name], path, whole=False) for name in scores], axis=1)
    if logits:
        values = _probabilities(values)
    n_classes = max(2, len(scores))
    table[list(score_columns(n_classes))] = values[:, -1:] if n_classes == 2 else values
    return table, class_numbers(n_classes)


def _scores_in(raw: pd.DataFrame) -> list[str]:
    """Return the columns that scores are in, or should be.

    ``score`` says that there are two classes, whatever else is there. A lone ``score_N`` does not
    say what it is the score of: it has to be named.
    """
    count = sum(re.fullmatch(r"score_\d+", name) is not None for name in map(str, raw))
    if "score" in raw or count < 2:
        return ["score"]
    return [f"score_{number}" for number in range(count)]


def _numbers(column: pd.Series, path: Path, *, whole: bool) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers)
    if whole:
        bad |= numbers != np.floor(numbers)
    kind = "a whole number, from 0 up" if whole else "a finite number"
    hint = ". Of two classes, write 1 for the positive one and 0 for the other" if whole else ""
    problem = f"{column.name} must be {kind}, not {some(column[bad].unique())}{hint}."
    refuse_rows(pd.Series(bad, column.index), path, problem)
    return numbers


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return _probabilities(logits)[:, 1:]
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = power / power.sum(axis=1, keepdims=True)
    return probabilities


def attributes_of(
    raw: pd.DataFrame, columns: Columns, known: Mapping[str, list[str]], path: Path
) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """Return a column of levels for each attribute, and the levels in order.

    Parameters
    ----------
    known
        The levels of attributes in a file that Evenhand has written.

    Raises
    ------
    EvenhandError
        An attribute has no column, or is a number without bins, or has bins and is no number.
    """
    given = [str(name).removeprefix("attr_") for name in raw if str(name).startswith("attr_")]
    asked = [part for attribute in columns.attributes for part in parts_of(attribute)]
    table, levels = {}, {}
    for name in dict.fromkeys([*given, *asked]):
        column = next((one for one in (f"attr_{name}", name) if one in raw), None)
        if column is None:
            raise EvenhandError(
                f"{path} has no column 'attr_{name}' or {name!r} for attribute {name!r}; it has: "
                f"{_names(raw)}. Name the column that is meant with --map {name}=COLUMN."
            )
        rule = columns.bins[name].attribute(name, column) if name in columns.bins else None
        if name in known and (rule is None or rule.levels == tuple(known[name])):
            table[f"attr_{name}"], levels[name] = raw[column].fillna(UNKNOWN), tuple(known[name])
            continue
        if rule is None:
            refuse_measurement(name, raw[column], path)
            rule = distinct(name, column, raw[column])
        else:
            refuse_unbinned(raw[column], rule, path)
        table[f"attr_{name}"], levels[name] = rule.of(raw[column]), rule.levels
    return pd.DataFrame(table, index=raw.index).astype("str"), levels


def _names(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))
