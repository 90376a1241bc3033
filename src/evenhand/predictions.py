"""The predictions table: what a model said about each sample, read, checked and written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.attributes import UNKNOWN, distinct, group_of, parts_of
from evenhand.cohort.bins import Bins, refuse_measurement
from evenhand.cohort.refusals import refuse_doubled, rows_text
from evenhand.cohort.tables import read_table
from evenhand.errors import EvenhandError, some
from evenhand.files import replacing

SPLITS = ("train", "val", "test")
METADATA = b"evenhand"


@dataclass(frozen=True, eq=False)
class Predictions:
    """One row for each sample that a model has scored.

    Attributes
    ----------
    table
        ``sample_id``, ``patient_id``, ``split`` (where there is one), ``label``, ``score`` (the
        probability of class 1) or ``score_0`` … ``score_{C-1}``, and ``attr_<name>``.
    classes
        Names of the C classes.
    levels
        Levels of each attribute in order, ``"unknown"`` not among them.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(n,)``, 0 … C-1."""
        return self.table["label"].to_numpy(np.int64)

    @property
    def named(self) -> bool:
        """Whether the classes have names, and not only numbers."""
        return self.classes != _numbers_of(len(self.classes))

    @property
    def scores(self) -> NDArray[np.float64]:
        """``(n,)`` probability of class 1, or ``(n, C)`` of each class."""
        scores = self.table[list(score_columns(len(self.classes)))].to_numpy(np.float64)
        return scores[:, 0] if len(self.classes) == 2 else scores

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are rows of; none where the table does not say."""
        if "split" not in self.table:
            return ()
        return tuple(split for split in SPLITS if (self.table["split"] == split).any())

    def of_split(self, split: str) -> Predictions:
        """Return the rows of a split; of a table that does not know splits, all are ``"test"``."""
        if "split" not in self.table:
            return self if split == "test" else self._rows(np.zeros(len(self), dtype=np.bool_))
        return self._rows((self.table["split"] == split).to_numpy(np.bool_))

    def group(self, attribute: str) -> pd.Series:
        """Return each row's group of an attribute or an intersection (``"sex*age"``)."""
        return group_of(self.table, attribute, self.levels)

    def _rows(self, kept: NDArray[np.bool_]) -> Predictions:
        table = self.table.loc[kept].reset_index(drop=True)
        return Predictions(table, self.classes, self.levels)


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


def score_columns(n_classes: int) -> tuple[str, ...]:
    """Return the names of the score columns for a number of classes."""
    if n_classes == 2:
        return ("score",)
    return tuple(f"score_{number}" for number in range(n_classes))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions as parquet, whole or not at all; the same content gives the same bytes.

    Raises
    ------
    EvenhandError
        The table breaks its contract.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_predictions(predictions, path)
    known = {
        "schema": 1,
        "classes": list(predictions.classes),
        "levels": {name: list(levels) for name, levels in predictions.levels.items()},
    }
    table = pa.Table.from_pandas(predictions.table, preserve_index=False)
    text = json.dumps(known, ensure_ascii=False).encode()
    with replacing(path) as part:
        pq.write_table(table.replace_schema_metadata({METADATA: text}), part)


def read_predictions(path: Path, columns: Columns | None = None) -> Predictions:
    """Read predictions from parquet or CSV (commas or semicolons, UTF-8 with or without BOM).

    Raises
    ------
    EvenhandError
        The file is absent, no table, or breaks the contract; the text names file and row.
    """
    columns = columns or Columns()
    if not path.is_file():
        raise EvenhandError(f"there is no file {path}.")
    raw, known = _raw(path)
    if known:  # Evenhand's own files hold probabilities, under the contract's names
        columns = replace(columns, renamed={}, logits=False)
    raw = _renamed(raw, columns.renamed, path)
    if raw.empty:
        raise EvenhandError(f"{path} holds no rows.")
    table, classes = _checked_columns(raw, path, columns.logits)
    attributes, levels = _attributes(raw, columns, known.get("levels", {}), path)
    predictions = Predictions(
        pd.concat([table, attributes], axis=1),
        tuple(known.get("classes", classes)),
        levels,
    )
    check_predictions(predictions, path)
    return predictions


def check_predictions(predictions: Predictions, path: Path) -> None:
    """Check what must hold between the rows of predictions.

    Raises
    ------
    EvenhandError
        A sample comes twice, a patient is in two splits, a score is not in 0 … 1, a label is not
        in 0 … C-1, or a level is not among the attribute's levels. The text names ``path``, rows.
    """
    table = predictions.table
    n_classes = len(predictions.classes)
    scores = table[list(score_columns(n_classes))].to_numpy(np.float64)
    outside = np.any(~((scores >= 0) & (scores <= 1)), axis=1)  # NaN is outside, too
    _refuse(outside, path, "scores must be probabilities, 0 … 1 (for logits, give --logits)")
    labels = predictions.labels
    wrong = (labels < 0) | (labels >= n_classes)
    _refuse(wrong, path, f"labels must be 0 … {n_classes - 1}, as there are {n_classes} classes")
    twice = table["sample_id"].duplicated(keep=False)
    who = some(table.loc[twice, "sample_id"].unique())
    _refuse(twice, path, f"sample ids must be unique; twice there: {who}")
    if "split" in table:
        _refuse(~table["split"].isin(SPLITS), path, f"split must be one of {', '.join(SPLITS)}")
        several = table.groupby("patient_id")["split"].transform("nunique") > 1
        who = some(table.loc[several, "patient_id"].unique())
        _refuse(several, path, f"a patient must be in one split only; these are in two: {who}")
    for name, levels in predictions.levels.items():
        strange = ~table[f"attr_{name}"].isin([*levels, UNKNOWN])
        _refuse(strange, path, f"attribute {name!r} has the levels {', '.join(map(repr, levels))}")


def _raw(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a file's columns as they are (CSV: as text), and what its metadata say."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            text = (table.schema.metadata or {}).get(METADATA, b"{}")
            refuse_doubled(table.column_names, path)
            return table.to_pandas(), json.loads(text)
        if path.suffix.lower() == ".csv":
            return read_table(path), {}
    except (OSError, ValueError) as error:  # what pyarrow and pandas raise for a damaged file
        raise EvenhandError(f"{path} cannot be read as a table: {error}") from error
    raise EvenhandError(f"{path} is no predictions table: its name must end in .csv or .parquet.")


def _renamed(table: pd.DataFrame, renamed: Mapping[str, str], path: Path) -> pd.DataFrame:
    absent = [given for given in renamed.values() if given not in table]
    if absent:
        raise EvenhandError(f"{path} has no column {some(absent)}; it has: {_names(table)}.")
    return table.assign(**{name: table[given] for name, given in renamed.items()})


def _checked_columns(
    raw: pd.DataFrame, path: Path, logits: bool
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the columns that are no attributes, typed, and the classes by number."""
    n_classes = sum(re.fullmatch(r"score_\d+", name) is not None for name in map(str, raw)) or 2
    scores = score_columns(n_classes)
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
        _refuse(raw[name].isna(), path, f"{name} is missing")
    table = raw[ids].astype("str")
    table["label"] = _numbers(raw["label"], path, whole=True).astype(np.int64)
    values = np.stack([_numbers(raw[name], path, whole=False) for name in scores], axis=1)
    table[list(scores)] = _probabilities(values) if logits else values
    return table, _numbers_of(n_classes)


def _numbers_of(n_classes: int) -> tuple[str, ...]:
    """Return what classes are called where nobody has named them."""
    return tuple(map(str, range(n_classes)))


def _numbers(column: pd.Series, path: Path, *, whole: bool) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers)
    if whole:
        bad |= numbers != np.floor(numbers)
    kind = "a whole number, from 0 up" if whole else "a finite number"
    hint = ". Of two classes, write 1 for the positive one and 0 for the other" if whole else ""
    _refuse(bad, path, f"{column.name} must be {kind}, not {some(column[bad].unique())}{hint}")
    return numbers


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return _probabilities(logits)[:, 1:]
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = power / power.sum(axis=1, keepdims=True)
    return probabilities


def _attributes(
    raw: pd.DataFrame, columns: Columns, known: Mapping[str, list[str]], path: Path
) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """Return a column of levels for each attribute, and the levels in order."""
    given = [str(name).removeprefix("attr_") for name in raw if str(name).startswith("attr_")]
    asked = [part for attribute in columns.attributes for part in parts_of(attribute)]
    table, levels = {}, {}
    for name in dict.fromkeys([*given, *asked]):
        column = next((one for one in (f"attr_{name}", name) if one in raw), None)
        if column is None:
            raise EvenhandError(
                f"{path} has no column 'attr_{name}' or {name!r} for attribute {name!r}; it has: "
                f"{_names(raw)}."
            )
        if name in known and name not in columns.bins:
            table[f"attr_{name}"], levels[name] = raw[column].fillna(UNKNOWN), tuple(known[name])
            continue
        if name not in columns.bins:
            refuse_measurement(name, raw[column], path)
            rule = distinct(name, column, raw[column])
        else:
            rule = columns.bins[name].attribute(name, column)
        table[f"attr_{name}"], levels[name] = rule.of(raw[column].astype("str")), rule.levels
    return pd.DataFrame(table, index=raw.index).astype("str"), levels


def _refuse(bad: NDArray[np.bool_] | pd.Series, path: Path, problem: str) -> None:
    """Raise for the marked rows, numbered as in a spreadsheet: the header is row 1."""
    rows = np.flatnonzero(np.asarray(bad, dtype=np.bool_)) + 2
    if len(rows):
        raise EvenhandError(f"{path}, {rows_text(rows.tolist())}: {problem}.")


def _names(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))
