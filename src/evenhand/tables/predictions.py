"""Read, check and write predictions: a table with a row for each sample."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype, is_string_dtype
from pydantic import BaseModel, ConfigDict, Field

from evenhand.errors import EvenhandError, first_few
from evenhand.files import DamagedError, parse_object, parse_record, replacing
from evenhand.run_files import TABLE_MARK
from evenhand.tables.attributes import UNKNOWN, group_of
from evenhand.tables.columns import (
    Columns,
    class_numbers,
    read_attributes,
    read_pairs,
    read_required_columns,
    rename_columns,
    score_columns,
)
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import refuse_rows

SPLITS = ("train", "val", "test")
SCHEMA = 1


class _Metadata(BaseModel):
    """The metadata of predictions files that Evenhand wrote: names of classes, order of levels."""

    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: int = Field(alias="schema")
    classes: list[str] = Field(min_length=2)
    levels: dict[str, list[str]]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The scores of a model, with labels, patients and attributes: a row for each sample.

    Attributes
    ----------
    table
        The columns ``sample_id``, ``patient_id``, ``split`` (optional), ``label``, ``score`` (the
        probability of class 1) or ``score_0`` … ``score_{C-1}``, ``attr_<name>``, and ``pair_id``
        if samples have twins.
    classes
        The names of the C classes.
    levels
        The levels of each attribute in order, without ``"unknown"``.
    notes
        Sentences about implausible values in the file.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(n,)`` labels, 0 … C-1."""
        return self.table["label"].to_numpy(np.int64)

    @cached_property
    def patients(self) -> tuple[NDArray[np.intp], pd.Index]:
        """``(n,)`` number of each row's patient, and the patients' ids in order."""
        codes, names = pd.factorize(self.table["patient_id"].astype("str"), sort=True)
        return codes.astype(np.intp), pd.Index(names)

    @property
    def has_class_names(self) -> bool:
        """Whether the classes have names other than their numbers."""
        return self.classes != class_numbers(len(self.classes))

    @property
    def scores(self) -> NDArray[np.float64]:
        """``(n,)`` probability of class 1, or ``(n, C)`` of each class."""
        scores = self.table[list(score_columns(len(self.classes)))].to_numpy(np.float64)
        return scores[:, 0] if len(self.classes) == 2 else scores

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have rows; empty if the table has no column ``split``."""
        if "split" not in self.table:
            return ()
        return tuple(split for split in SPLITS if (self.table["split"] == split).any())

    def of_split(self, split: str) -> Predictions:
        """Return the rows of a split; without a column ``split``, all rows are ``"test"``."""
        if "split" not in self.table:
            return self if split == "test" else self._select(np.zeros(len(self), dtype=np.bool_))
        in_split = (self.table["split"] == split).to_numpy(np.bool_)
        return self if in_split.all() else self._select(in_split)

    def with_scores(self, scores: NDArray[np.float64]) -> Predictions:
        """Return the same rows with other scores: ``(n,)`` for class 1, or ``(n, C)``."""
        columns = score_columns(len(self.classes))
        by_class = scores if scores.ndim == 2 else np.stack([1 - scores, scores], axis=1)
        if by_class.shape != (len(self), len(self.classes)):
            raise ValueError(
                f"scores {scores.shape} of {len(self)} rows and {len(self.classes)} classes"
            )
        first = len(self.classes) - len(columns)
        update = {name: by_class[:, first + index] for index, name in enumerate(columns)}
        return replace(self, table=self.table.assign(**update))

    def group(self, attribute: str) -> pd.Series:
        """Return each row's group of an attribute or an intersection (``"sex*age"``)."""
        if attribute not in self._groups:
            self._groups[attribute] = group_of(self.table, attribute, self.levels)
        return self._groups[attribute]

    @cached_property
    def _groups(self) -> dict[str, pd.Series]:
        """A cache: attribute → the result of `group`."""
        return {}

    def _select(self, selected: NDArray[np.bool_]) -> Predictions:
        table = self.table.loc[selected].reset_index(drop=True)
        return Predictions(table, self.classes, self.levels)


def write_predictions(path: Path, predictions: Predictions, *, labelled: bool = True) -> None:
    """Write predictions as parquet, whole or not at all; the same content gives the same bytes.

    Parameters
    ----------
    labelled
        Whether the labels are known; if not, the file has no column ``label``.

    Raises
    ------
    EvenhandError
        If the table breaks the contract of predictions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_predictions(replace(predictions, table=_with_row_numbers(predictions.table)), path)
    metadata = {
        "schema": SCHEMA,
        "classes": list(predictions.classes),
        "levels": {name: list(levels) for name, levels in predictions.levels.items()},
    }
    written = predictions.table if labelled else predictions.table.drop(columns="label")
    table = pa.Table.from_pandas(written, preserve_index=False)
    text = json.dumps(metadata, ensure_ascii=False).encode()
    with replacing(path) as part:
        # An absolute path, because pyarrow expands "~" at the beginning of a path.
        pq.write_table(table.replace_schema_metadata({TABLE_MARK: text}), part.absolute())


def read_predictions(path: Path, columns: Columns | None = None) -> Predictions:
    """Read predictions from parquet or CSV (commas or semicolons, UTF-8 with or without BOM).

    A table from another program gives the same result as CSV and as parquet (see
    `evenhand.tables.reading.read_table`).

    Raises
    ------
    EvenhandError
        If the file is absent, is not a table, or breaks the contract; the message names file and
        row.
    """
    columns = columns or Columns()
    if path.is_dir():
        raise EvenhandError(
            f"{path} is a folder but not a run: it has no run.json. Give a file or a run."
        )
    if not path.is_file():
        raise EvenhandError(f"there is no file {path}.")
    raw, metadata = _read_raw(path, columns)
    if metadata:  # Evenhand's own files hold numbered labels and probabilities, under their names
        columns = replace(columns, renamed={}, logits=False, positive=None)
    raw = rename_columns(raw, columns.renamed, path)
    if raw.empty:
        raise EvenhandError(f"{path} holds no rows.")
    if metadata:
        _check_numbers(raw, path)
    table, classes = read_required_columns(raw, path, columns)
    _check_splits(table, path)
    if metadata:
        _check_metadata(metadata, raw, len(classes), path)
        classes = tuple(metadata.classes)
    attributes = read_attributes(raw, columns, metadata.levels if metadata else {}, path)
    predictions = Predictions(
        pd.concat([table, attributes.table, read_pairs(raw, path, columns.pair)], axis=1),
        classes,
        attributes.levels,
        attributes.notes,
    )
    check_predictions(predictions, path)
    return replace(predictions, table=predictions.table.reset_index(drop=True))


def check_predictions(predictions: Predictions, path: Path) -> None:
    """Check the rows of predictions; the index of their table is the row in the file.

    Raises
    ------
    EvenhandError
        If a sample occurs twice, a patient is in two splits, a score is not in 0 … 1, a label is
        not in 0 … C-1, or a level is not among the attribute's levels. The message names ``path``
        and rows.
    """
    table = predictions.table
    n_classes = len(predictions.classes)
    scores = table[list(score_columns(n_classes))].to_numpy(np.float64)
    outside = np.any(~((scores >= 0) & (scores <= 1)), axis=1)  # NaN is outside, too
    refuse_rows(
        pd.Series(outside, table.index),
        path,
        "scores must be probabilities, 0 … 1 (for logits, give --logits).",
    )
    wrong = ~table["label"].between(0, n_classes - 1)
    refuse_rows(
        wrong, path, f"labels must be 0 … {n_classes - 1}, as there are {n_classes} classes."
    )
    twice = table["sample_id"].duplicated(keep=False)
    who = first_few(table.loc[twice, "sample_id"].unique())
    refuse_rows(twice, path, f"sample ids must be unique; these occur twice: {who}.")
    _check_splits(table, path)
    for name, levels in predictions.levels.items():
        strange = ~table[f"attr_{name}"].isin([*levels, UNKNOWN])
        refuse_rows(
            strange, path, f"attribute {name!r} has the levels {', '.join(map(repr, levels))}."
        )


def _check_numbers(raw: pd.DataFrame, path: Path) -> None:
    """Refuse a file of Evenhand whose labels or scores are not numbers."""
    for name in raw.columns:
        is_number = name == "label" or re.fullmatch(r"score(_\d+)?", name)
        if is_number and not is_numeric_dtype(raw[name]):
            raise DamagedError(path, f"its column {name!r} holds no numbers")


def _check_metadata(metadata: _Metadata, raw: pd.DataFrame, n_classes: int, path: Path) -> None:
    """Refuse metadata that contradict the columns of the file."""
    if len(metadata.classes) != n_classes:
        raise DamagedError(
            path,
            f"its metadata name {len(metadata.classes)} classes, and it has scores of {n_classes}",
        )
    if absent := [name for name in metadata.levels if f"attr_{name}" not in raw.columns]:
        raise DamagedError(
            path, f"its metadata list levels of {first_few(absent)}, and that column is missing"
        )
    for name, levels in metadata.levels.items():
        column = raw[f"attr_{name}"]
        if not is_string_dtype(column):
            raise DamagedError(path, f"its column 'attr_{name}' holds no text")
        if strange := sorted(set(column.dropna().unique()) - {*levels, UNKNOWN}):
            raise DamagedError(
                path,
                f"its metadata lack the levels {first_few(strange)} of its column 'attr_{name}'",
            )


def _check_splits(table: pd.DataFrame, path: Path) -> None:
    if "split" not in table:
        return
    refuse_rows(~table["split"].isin(SPLITS), path, f"split must be one of {', '.join(SPLITS)}.")
    several = table.groupby("patient_id")["split"].transform("nunique") > 1
    who = first_few(table.loc[several, "patient_id"].unique())
    problem = f"a patient must be in one split only; these are in two: {who}."
    refuse_rows(several, path, f"{problem} Give all rows of a patient the same split.")


def _read_raw(path: Path, columns: Columns) -> tuple[pd.DataFrame, _Metadata | None]:
    """Return a file's rows and the metadata of Evenhand's own files; other tables as text."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise EvenhandError(
            f"{path} is not a predictions table: its name must end in .csv or .parquet."
        )
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if not is_parquet:
            return read_table(path), None  # its error names the kind of file
        try:
            metadata = (pq.read_schema(path.absolute()).metadata or {}).get(TABLE_MARK)
            if metadata is not None:
                parsed = parse_record(
                    _Metadata, parse_object(metadata.decode(), path, SCHEMA), path
                )
                return _with_row_numbers(pq.read_table(path.absolute()).to_pandas()), parsed
        except (OSError, ValueError) as error:  # pyarrow's errors for a damaged file
            raise DamagedError(path, f"it cannot be read as a table ({error})") from error
    ids = [columns.renamed.get(name, name) for name in ("sample_id", "patient_id")]
    return read_table(path, ids=ids), None


def _with_row_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table indexed by the row as a spreadsheet counts it: the header is row 1."""
    return table.set_axis(pd.RangeIndex(2, len(table) + 2))
