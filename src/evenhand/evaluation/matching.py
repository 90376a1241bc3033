"""Which samples several models have all scored, and which they have not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import matched, rows_of
from evenhand.tables.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Matched:
    """Predictions with the reported split cut down to the samples that all models have in it.

    Attributes
    ----------
    models
        The predictions; other splits, which thresholds come from, are as they were.
    samples, patients
        How many are matched.
    unmatched
        The others: ``model``, ``sample_id``, ``patient_id`` and ``why`` it was not matched.
    """

    models: dict[str, Predictions]
    samples: int
    patients: int
    unmatched: pd.DataFrame


def match(models: Mapping[str, Predictions], split: str) -> Matched:
    """Match the samples of several models; class names that some model lacks are the others'.

    Raises
    ------
    EvenhandError
        If no sample is shared by all models, the models distinguish different classes, or a shared
        sample has two labels, patients or groups.
    """
    classes = {
        len(predictions.classes): predictions.classes
        for predictions in models.values()
        if predictions.named
    }
    samples = {
        name: set(rows_of(predictions, split).table["sample_id"])
        for name, predictions in models.items()
    }
    shared = set.intersection(*samples.values())
    if not shared:
        counts = ", ".join(f"{len(of_model)} in {name}" for name, of_model in samples.items())
        raise EvenhandError(
            f"no sample of the split {split!r} is in all of the predictions ({counts}); give "
            "models that have scored the same samples, under the same sample ids."
        )
    kept = {
        name: Predictions(
            _kept(predictions.table, shared, split),
            _named_classes(predictions, classes),
            predictions.levels,
        )
        for name, predictions in models.items()
    }
    first, *others = kept.values()
    for other in others:
        matched(first.of_split(split), other.of_split(split))
    left = [_left(name, models, split, shared) for name in models]
    own = first.of_split(split).table
    return Matched(kept, len(own), own["patient_id"].nunique(), pd.concat(left, ignore_index=True))


def _named_classes(
    predictions: Predictions, classes: Mapping[int, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the classes of predictions; those of another model where they are only numbered."""
    own = predictions.classes
    return own if predictions.named else classes.get(len(own), own)


def _kept(table: pd.DataFrame, shared: set[str], split: str) -> pd.DataFrame:
    other = table["split"] != split if "split" in table else False
    return table[table["sample_id"].isin(shared) | other].reset_index(drop=True)


def _left(
    name: str, models: Mapping[str, Predictions], split: str, shared: set[str]
) -> pd.DataFrame:
    table = models[name].of_split(split).table
    left = table.loc[~table["sample_id"].isin(shared), ["sample_id", "patient_id"]]
    others = {other: _splits(predictions) for other, predictions in models.items() if other != name}
    why = [_why(sample, others, split) for sample in left["sample_id"]]
    return left.assign(model=name, why=why)[["model", "sample_id", "patient_id", "why"]]


def _why(sample: str, others: Mapping[str, Mapping[str, str]], split: str) -> str:
    return "; ".join(
        f"in the split {splits[sample]} of {other}" if sample in splits else f"not in {other}"
        for other, splits in others.items()
        if splits.get(sample) != split
    )


def _splits(predictions: Predictions) -> dict[str, str]:
    """Return the split of each sample."""
    table = predictions.table
    splits = table["split"] if "split" in table else ["test"] * len(table)
    return dict(zip(table["sample_id"], splits, strict=True))
