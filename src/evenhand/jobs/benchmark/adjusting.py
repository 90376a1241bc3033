"""Fit adjustments to the validation patients of a fold, and apply them to its test patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.evaluation.rows import choose_cut, scored_rows
from evenhand.jobs.benchmark.entries import Entry
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.methods.mitigate import mitigate
from evenhand.metrics.scored import Scored
from evenhand.tables.predictions import Predictions


@dataclass(frozen=True, eq=False)
class TestedModel:
    """The predictions of an entry for test patients, of one fold or of all folds.

    Attributes
    ----------
    predictions
        The rows and their scores.
    rows
        The scored rows with decisions: by the threshold of each fold's validation patients, or by
        the method.
    """

    predictions: Predictions
    rows: Scored


@dataclass(frozen=True, eq=False)
class AdjustedFold:
    """The adjusted predictions of a fold's model.

    Attributes
    ----------
    predictions
        The rows of every split, with their new scores.
    decisions
        The decisions of each split; empty if a threshold decides.
    """

    predictions: Predictions
    decisions: Mapping[str, NDArray[np.intp]]

    def tested(self, split: str = "test") -> TestedModel:
        """Return the rows of a split with their decisions."""
        part = self.predictions.of_split(split)
        rows = scored_rows(part, choose_cut(self.predictions))
        if split in self.decisions:
            rows = replace(rows, decisions=self.decisions[split])
        return TestedModel(part, rows)


def adjust_predictions(
    entry: Entry,
    before: Predictions,
    settings: BenchmarkSettings,
    seed: int,
    features: Mapping[str, NDArray[np.float64]] | None = None,
) -> AdjustedFold:
    """Fit an adjustment to validation patients, and adjust every split.

    Parameters
    ----------
    entry
        The adjustment.
    before
        The predictions of the model, of all splits.
    settings
        The settings of the benchmark.
    seed
        The seed of the model.
    features
        The features ``(n, D)`` of each split; None if the adjustment takes scores.

    Raises
    ------
    EvenhandError
        If the method cannot be fitted to the validation patients.
    """
    splits = list(dict.fromkeys(before.table["split"].astype(str)))
    parts = {name: before.of_split(name) for name in splits}
    inputs = features or {name: part.scores for name, part in parts.items()}
    attributes = entry.attributes(settings)
    groups = {name: groups_table(part, attributes) for name, part in parts.items()}
    val = parts["val"]
    patients = val.table["patient_id"].to_numpy()
    adjusted = mitigate(
        inputs["val"], val.labels, groups["val"], entry.method, patients=patients, seed=seed
    )
    tables = [
        part.with_scores(adjusted.scores(inputs[name], groups[name])).table
        for name, part in parts.items()
    ]
    decisions = {}
    if hasattr(adjusted.fit, "decide"):
        for name in splits:
            split_decisions = adjusted.decisions(inputs[name], groups[name])
            decisions[name] = np.asarray(split_decisions, dtype=np.intp)
    table = pd.concat(tables, ignore_index=True)
    return AdjustedFold(replace(before, table=table), decisions)


def groups_table(part: Predictions, attributes: Sequence[str]) -> pd.DataFrame:
    """Return the level of each row, with a column for each attribute."""
    return pd.DataFrame({name: part.group(name).astype(str) for name in attributes})
