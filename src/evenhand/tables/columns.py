"""Read predictions tables of other programs: columns, scores and attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, first_few
from evenhand.tables.attributes import attribute_by_value, attribute_parts
from evenhand.tables.bins import NumericBins
from evenhand.tables.classes import order_classes, polarity, unclear_positive
from evenhand.tables.own_attributes import read_own_attribute
from evenhand.tables.spelling import refuse_spellings, whole_number, whole_numbers
from evenhand.tables.table_checks import refuse_ids, refuse_rows, require_columns
from evenhand.tables.values import ValueRules


@dataclass(frozen=True)
class Columns:
    """Settings for reading a predictions table.

    For tables that Evenhand wrote, ``renamed``, ``logits`` and ``positive`` are ignored.

    Attributes
    ----------
    attributes
        Attributes to read; ``age`` means the column ``attr_age``, else ``age``.
    bins
        Bins of numeric attributes (see `evenhand.tables.bins.parse_bins`).
    renamed
        The file's column for each of Evenhand's names: ``{"label": "y_true"}``.
    logits
        Whether the scores are logits, which are then turned into probabilities.
    values
        Rules for the values of attributes and of the label.
    positive
        The positive class, if the names of the two classes do not show which one it is.
    pair
        The file's column in which twins (two versions of one sample) have the same value; by
        default ``pair_id``, if it exists.
    """

    attributes: tuple[str, ...] = ()
    bins: Mapping[str, NumericBins] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    logits: bool = False
    values: ValueRules = field(default_factory=ValueRules)
    positive: str | None = None
    pair: str | None = None


PAIR = "pair_id"
"""The column of pair ids: equal for the two twins of a pair, "" for a sample without a twin."""

CONTRACT = ("sample_id", "patient_id", "split", "label", "score")
"""Columns of a predictions table.

With more than two classes, the scores are ``score_0``, ``score_1`` and so on; the column of an
attribute is ``attr_NAME``."""


def score_columns(n_classes: int) -> tuple[str, ...]:
    """Return the names of the score columns for a number of classes."""
    if n_classes == 2:
        return ("score",)
    return tuple(f"score_{number}" for number in range(n_classes))


def class_numbers(n_classes: int) -> tuple[str, ...]:
    """Return the default names of classes: the numbers from 0."""
    return tuple(map(str, range(n_classes)))


def parse_map(texts: Iterable[str], resolve: Callable[[str], str], example: str) -> dict[str, str]:
    """Return the column of a file for each name, from texts ``NAME=COLUMN`` of ``--map``.

    Parameters
    ----------
    texts
        The values of ``--map``, as the user wrote them.
    resolve
        Function from the user's name to the name to use; it refuses names that are not allowed.
    example
        A valid text, for the message.

    Raises
    ------
    EvenhandError
        If a text does not have this form, or one name has two columns.
    """
    columns: dict[str, str] = {}
    for text in texts:
        name, equals, column = text.partition("=")
        if not (equals and column.strip()):
            raise EvenhandError(f"--map {text!r}: write it as NAME=COLUMN, as in {example}.")
        resolved = resolve(name)
        if columns.get(resolved, column) != column:
            raise EvenhandError(
                f"--map names two columns for {resolved!r}: {columns[resolved]!r} and {column!r}. "
                "Give one."
            )
        columns[resolved] = column
    return columns


def rename_columns(table: pd.DataFrame, renamed: Mapping[str, str], path: Path) -> pd.DataFrame:
    """Return a table with copies of columns under Evenhand's names (see `Columns.renamed`).

    Raises
    ------
    EvenhandError
        If the table lacks a column that ``--map`` names.
    """
    require_columns(table, path, renamed.values())
    return table.assign(**{name: table[column] for name, column in renamed.items()})


def read_pairs(raw: pd.DataFrame, path: Path, name: str | None) -> pd.DataFrame:
    """Return the column `PAIR` of a table, or no column if the table has no twins.

    Raises
    ------
    EvenhandError
        If the table lacks the named column, or the column holds no pairs (see `refuse_no_pairs`).
    """
    if name is None and PAIR not in raw:
        return pd.DataFrame(index=raw.index)
    if name is not None and name not in raw:
        raise EvenhandError(
            f"{path} has no column {name!r}, which --pair-column names; it has: "
            f"{_column_names(raw)}."
        )
    column = raw[name or PAIR]
    pairs = column.astype("str").where(column.notna(), "")
    refuse_no_pairs(pairs, name, str(path))
    return pd.DataFrame({PAIR: pairs})


def refuse_no_pairs(pairs: pd.Series, name: str | None, where: str) -> None:
    """Refuse a column of pair ids if more than two rows share a value, or if no two rows do.

    ``name`` is the column that the user named; None means `PAIR`, which may have no pairs.
    """
    sizes = pairs[pairs != ""].value_counts()
    advice = "Give --pair-column the column in which only the two twins of a pair share a value."
    if len(sizes) and sizes.iloc[0] > 2:
        column = f"the column {PAIR!r}" if name is None else f"--pair-column {name}"
        raise EvenhandError(
            f"{column}: {sizes.iloc[0]} rows of {where} share the value {sizes.index[0]!r}, but "
            f"twins are pairs. {advice}"
        )
    if name is not None and not (sizes == 2).any():
        raise EvenhandError(
            f"--pair-column {name}: no two rows of {where} share a value, but twins must. {advice}"
        )


def read_required_columns(
    raw: pd.DataFrame, path: Path, columns: Columns
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return ids, split, label and scores with their types, and the names of the classes.

    Raises
    ------
    EvenhandError
        If a column is absent, a cell is blank or not a number, an id identifies nobody, scores are
        probabilities although ``--logits`` is given, or the positive class is unknown.
    """
    scores = _score_names(raw)
    needed = ("sample_id", "patient_id", "label", *scores)
    absent = [name for name in needed if name not in raw]
    if absent:
        raise EvenhandError(
            f"{path} has no column {', '.join(map(repr, absent))}; it has: {_column_names(raw)}. "
            f"Name the right column with --map {absent[0]}=COLUMN (if each sample is a patient of "
            "its own: --map patient_id=sample_id)."
        )
    ids = ["sample_id", "patient_id", *(["split"] if "split" in raw else [])]
    for name in ids:
        refuse_rows(raw[name].isna(), path, f"{name} is missing.")
    table = raw[ids].astype("str")
    refuse_ids(table["patient_id"], path, "patient")
    n_classes = max(2, len(scores))
    table["label"], classes = _labels(raw["label"], path, columns, n_classes)
    values = np.stack([_scores(raw[name], path) for name in scores], axis=1)
    if columns.logits:
        _refuse_probabilities(values, path)
        values = _probabilities(values)
    table[list(score_columns(n_classes))] = values[:, -1:] if n_classes == 2 else values
    return table, classes


def _score_names(raw: pd.DataFrame) -> list[str]:
    """Return the names of the score columns that the table must have.

    A column ``score`` means two classes, regardless of other columns. A single ``score_N`` is
    ambiguous: the user must say with ``--map`` what it is.
    """
    count = sum(re.fullmatch(r"score_\d+", name) is not None for name in map(str, raw))
    if "score" in raw or count < 2:
        return ["score"]
    return [f"score_{number}" for number in range(count)]


def _labels(
    raw: pd.Series, path: Path, columns: Columns, n_classes: int
) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the number of each row's class, and the names of the classes."""
    text = whole_numbers(columns.values.apply("label", raw.astype("str")))
    positive = columns.positive if columns.positive is None else whole_number(columns.positive)
    numbers = _numbers(text)
    if n_classes > 2 and positive is not None:
        raise EvenhandError(
            f"--positive {columns.positive}: {path} has scores of {n_classes} classes, and "
            "--positive is for two classes. Leave it out."
        )
    if numbers.isna().all():
        refuse_spellings("label", text, path)
    values = [str(value) for value in text.dropna().unique()]
    coded = bool(numbers.notna().all() and numbers.isin([0, 1]).all())
    fractional = bool((numbers % 1 > 0).any())
    if n_classes > 2 or (coded and positive is None) or len(values) > 2 or fractional:
        return _whole_numbers(text, path), class_numbers(n_classes)
    refuse_rows(text.isna(), path, "the label is missing.")
    refuse_spellings("label", text, path)
    if len(values) == 1 and positive is None:
        number = polarity(values[0])
        if number is None:
            return _whole_numbers(text, path), class_numbers(n_classes)
        return pd.Series(number, text.index, dtype=np.int64), class_numbers(n_classes)
    if len(values) == 1:
        return (text == positive).astype(np.int64), class_numbers(n_classes)
    classes = order_classes(values, positive, f"the label of {path}")
    if not classes.ordered:
        raise unclear_positive(classes.names, str(path))
    return (text == classes.names[1]).astype(np.int64), classes.names


def _numbers(text: pd.Series) -> pd.Series:
    """Return texts as numbers, NaN for a text that is none; each distinct text is read once."""
    which, values = pd.factorize(text, use_na_sentinel=False)
    numbers = pd.to_numeric(pd.Series(values, dtype="str"), errors="coerce").to_numpy(np.float64)
    return pd.Series(numbers[which], text.index, name=text.name)


def _whole_numbers(text: pd.Series, path: Path) -> pd.Series:
    numbers = _numbers(text).to_numpy()
    bad = ~np.isfinite(numbers) | (numbers != np.floor(numbers))
    problem = (
        f"{text.name} must be a whole number from 0, not {first_few(text[bad].unique())}. For two "
        "classes, write 1 for the positive one and 0 for the other, or two names."
    )
    refuse_rows(pd.Series(bad, text.index), path, problem)
    return pd.Series(numbers, text.index).astype(np.int64)


def _scores(column: pd.Series, path: Path) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = pd.Series(~np.isfinite(numbers), column.index)
    text = column[bad].astype("str")
    lists = text.str.fullmatch(r"[\[({].*[,; ].*[\])}]").fillna(False)
    refuse_rows(
        lists,
        path,
        f"{column.name} holds lists, as in {first_few(text.unique()[:1])}. Write each class's "
        "score in a column of its own: score_0, score_1 and so on; for two classes, write only the "
        "score of the positive one, as score.",
    )
    refuse_rows(
        bad, path, f"{column.name} must be a finite number, not {first_few(text.unique())}."
    )
    return numbers


def _refuse_probabilities(values: NDArray[np.float64], path: Path) -> None:
    """Refuse logits that look like probabilities: in 0 … 1, with sum 1 for several classes."""
    in_unit_range = bool(np.all((values >= 0) & (values <= 1)))
    if in_unit_range and (values.shape[1] == 1 or np.allclose(values.sum(axis=1), 1, atol=1e-3)):
        raise EvenhandError(
            f"--logits: the scores of {path} are probabilities, all of them from "
            f"{values.min():g} to {values.max():g}. Leave --logits out."
        )


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return _probabilities(logits)[:, 1:]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


@dataclass(frozen=True, eq=False)
class Attributes:
    """The attributes of a predictions table.

    Attributes
    ----------
    table
        A column ``attr_<name>`` of levels for each attribute.
    levels
        The levels of each attribute, in order.
    notes
        Sentences about implausible values.
    """

    table: pd.DataFrame
    levels: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def read_attributes(
    raw: pd.DataFrame, columns: Columns, levels_of: Mapping[str, list[str]], path: Path
) -> Attributes:
    """Return the attributes of a table.

    Parameters
    ----------
    levels_of
        Attribute → its levels, from the metadata of a file that Evenhand wrote; else empty.

    Raises
    ------
    EvenhandError
        If an attribute has no column, is numeric without bins, has bins and is not numeric, or is
        refused by `evenhand.tables.own_attributes.read_own_attribute`.
    """
    prefixed = [str(name).removeprefix("attr_") for name in raw if str(name).startswith("attr_")]
    requested = [part for attribute in columns.attributes for part in attribute_parts(attribute)]
    table, levels = {}, {}
    notes: list[str] = []
    patients = pd.Series(pd.Categorical(raw["patient_id"]), raw.index)  # faster than text
    for name in dict.fromkeys([*prefixed, *requested]):
        column = _column_of(name, raw, path)
        bins = columns.bins.get(name)
        rule = bins.attribute(name, column) if bins else None
        if name in levels_of and (rule is None or rule.levels == tuple(levels_of[name])):
            rule = columns.values.apply_to_levels(
                attribute_by_value(name, column, {level: level for level in levels_of[name]})
            )
            table[f"attr_{name}"], levels[name] = rule.levels_of(raw[column]), rule.levels
            continue
        values = raw[column].astype("str")
        own = read_own_attribute(name, values, patients, path, bins, columns.values)
        table[f"attr_{name}"], levels[name] = own.rule.levels_of(own.raw), own.rule.levels
        notes += own.notes
    return Attributes(pd.DataFrame(table, index=raw.index).astype("str"), levels, tuple(notes))


def _column_of(name: str, raw: pd.DataFrame, path: Path) -> str:
    if name in ("label", "score"):
        raise EvenhandError(
            f"--attribute {name}: groups cannot be made from the {name}, because metrics are "
            "computed from it. Name another column."
        )
    column = next((column for column in (f"attr_{name}", name) if column in raw), None)
    if column is None:
        raise EvenhandError(
            f"{path} has no column 'attr_{name}' or {name!r} for attribute {name!r}; it has: "
            f"{_column_names(raw)}. Name the right column with --map {name}=COLUMN."
        )
    return column


def _column_names(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))
