"""Match the samples of several models: those that all of them have scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import shared_rows, split_rows
from evenhand.tables.predictions import Predictions


@dataclass(frozen=True, eq=False)
class MatchedModels:
    """Predictions of several models, with the same samples in the reported split.

    Attributes
    ----------
    models
        Model → predictions. The reported split has only the shared samples; other splits, on which
        thresholds are chosen, have all samples.
    samples, patients
        The number of shared samples and of their patients.
    unmatched
        A row for each other sample of a model: ``model``, ``sample_id``, ``patient_id``, ``why``
        (it is not shared).
    """

    models: dict[str, Predictions]
    samples: int
    patients: int
    unmatched: pd.DataFrame


def match_samples(models: Mapping[str, Predictions], split: str) -> MatchedModels:
    """Return the predictions of several models on their shared samples.

    A model whose predictions lack names of classes gets those of another model.

    Raises
    ------
    EvenhandError
        If no sample is shared by all models, the classes differ, or a shared sample has two labels,
        patients or groups.
    """
    classes = {
        len(predictions.classes): predictions.classes
        for predictions in models.values()
        if predictions.has_class_names
    }
    samples = {
        name: set(split_rows(predictions, split).table["sample_id"])
        for name, predictions in models.items()
    }
    shared = set.intersection(*samples.values())
    if not shared:
        counts = ", ".join(f"{len(ids)} in {name}" for name, ids in samples.items())
        raise EvenhandError(
            f"no sample of the split {split!r} is in all of the predictions ({counts}); give "
            "models that have scored the same samples, under the same sample ids."
        )
    restricted = {
        name: Predictions(
            _restrict(predictions.table, shared, split),
            _named_classes(predictions, classes),
            predictions.levels,
        )
        for name, predictions in models.items()
    }
    first, *others = restricted.values()
    for other in others:
        shared_rows(first.of_split(split), other.of_split(split))  # refuses differences
    unmatched = [_unmatched(name, models, split, shared) for name in models]
    table = first.of_split(split).table
    return MatchedModels(
        restricted,
        len(table),
        table["patient_id"].nunique(),
        pd.concat(unmatched, ignore_index=True),
    )


def _named_classes(
    predictions: Predictions, classes: Mapping[int, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the names of the classes; if they are only numbered, those of another model."""
    names = predictions.classes
    return names if predictions.has_class_names else classes.get(len(names), names)


def _restrict(table: pd.DataFrame, shared: set[str], split: str) -> pd.DataFrame:
    """Return the table with only the shared samples in the split."""
    in_other_split = table["split"] != split if "split" in table else False
    return table[table["sample_id"].isin(shared) | in_other_split].reset_index(drop=True)


def _unmatched(
    name: str, models: Mapping[str, Predictions], split: str, shared: set[str]
) -> pd.DataFrame:
    table = models[name].of_split(split).table
    rows = table.loc[~table["sample_id"].isin(shared), ["sample_id", "patient_id"]]
    others = {
        other: _split_of_samples(predictions)
        for other, predictions in models.items()
        if other != name
    }
    why = [_why_unmatched(sample, others, split) for sample in rows["sample_id"]]
    return rows.assign(model=name, why=why)[["model", "sample_id", "patient_id", "why"]]


def _why_unmatched(sample: str, others: Mapping[str, Mapping[str, str]], split: str) -> str:
    return "; ".join(
        f"in the split {splits[sample]} of {other}" if sample in splits else f"not in {other}"
        for other, splits in others.items()
        if splits.get(sample) != split
    )


def _split_of_samples(predictions: Predictions) -> dict[str, str]:
    """Return sample id → split."""
    table = predictions.table
    splits = table["split"] if "split" in table else ["test"] * len(table)
    return dict(zip(table["sample_id"], splits, strict=True))
