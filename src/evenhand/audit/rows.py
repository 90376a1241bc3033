"""From predictions to the rows of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError
from evenhand.measure import (
    UNKNOWN,
    Groups,
    Plan,
    Scored,
    groups_of,
    measure,
    scored,
    youden,
)
from evenhand.predictions import Predictions


@dataclass(frozen=True)
class Cut:
    """Where scores are cut into decisions, and how that was found."""

    threshold: float
    how: str


def cut_of(predictions: Predictions) -> Cut:
    """Return Youden's threshold on the validation rows, or .5 where there are none."""
    if len(predictions.classes) > 2:
        return Cut(0.5, "the class with the highest score")
    rows = predictions.of_split("val")
    if not len(rows):
        return Cut(0.5, "0.5, as there are no validation rows")
    return Cut(youden(rows.labels, rows.scores), "Youden's index on the validation rows")


def scored_rows(predictions: Predictions, threshold: float = 0.5) -> Scored:
    """Return predictions as the arrays that `evenhand.measure.measure` takes."""
    return scored(
        predictions.labels,
        predictions.scores,
        patients=predictions.table["patient_id"].to_numpy(),
        threshold=threshold,
        classes=predictions.classes,
    )


def groups_in(predictions: Predictions, attributes: Sequence[str]) -> dict[str, Groups]:
    """Return the groups of attributes and intersections; ``unknown`` only where it occurs."""
    groups = {}
    for attribute in attributes:
        group = predictions.group(attribute)
        if not (group == UNKNOWN).any():
            group = group.cat.remove_categories([UNKNOWN])
        groups[attribute] = groups_of(group)
    return groups


def metric_rows(
    predictions: Predictions,
    attributes: Sequence[str],
    *,
    model: str,
    seed: int,
    plan: Plan | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Measure one model on one split; decisions are cut at a threshold from validation rows.

    Parameters
    ----------
    attributes
        Names of attributes, or of intersections such as ``"sex*age"``.
    model
        What the rows call the model.
    seed
        The same seed draws the same patients for every model.
    plan
        What is measured.
    split
        Whose rows: train, val or test.

    Returns
    -------
    pandas.DataFrame
        The columns of ``metrics.json``.

    Raises
    ------
    EvenhandError
        There are no rows of that split, or an attribute is not known.
    """
    rows = _of_split(predictions, split)
    found = measure(
        scored_rows(rows, cut_of(predictions).threshold),
        groups_in(rows, attributes),
        plan,
        rng=np.random.default_rng(seed),
    )
    return found.assign(model=model, split=split)


def paired_rows(
    pair: tuple[Predictions, Predictions],
    attributes: Sequence[str],
    *,
    names: tuple[str, str],
    seed: int,
    plan: Plan | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Measure the first model less the second, on the samples that both have scored.

    Parameters
    ----------
    pair
        Predictions of the two models; each is cut at its own threshold.
    names
        What the rows call the two models (``model``, ``against``).
    attributes, seed, plan, split
        As for `metric_rows`; levels are the first model's.

    Raises
    ------
    EvenhandError
        No sample of the split is in both, or a sample has two labels or two patients.
    """
    first, second = matched(_of_split(pair[0], split), _of_split(pair[1], split))
    found = measure(
        scored_rows(first, cut_of(pair[0]).threshold),
        groups_in(first, attributes),
        plan,
        rng=np.random.default_rng(seed),
        against=scored_rows(second, cut_of(pair[1]).threshold),
    )
    return found.assign(model=names[0], against=names[1], split=split)


def matched(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Return the rows that two models share, by sample, in the first one's order.

    Raises
    ------
    EvenhandError
        None is shared, the classes differ, or a shared sample has two labels or two patients.
    """
    if first.classes != second.classes:
        raise EvenhandError(
            f"the models tell other classes apart: {', '.join(first.classes)}; and "
            f"{', '.join(second.classes)}."
        )
    other = second.table.set_index("sample_id")
    kept = first.table[first.table["sample_id"].isin(other.index)].reset_index(drop=True)
    if kept.empty:
        raise EvenhandError("the two models have no sample in common; compare on the same data.")
    found = other.loc[kept["sample_id"]].reset_index()
    for column in ("label", "patient_id"):
        differs = kept["sample_id"][(kept[column] != found[column]).to_numpy()]
        if len(differs):
            raise EvenhandError(
                f"{len(differs)} samples have another {column} in the other model's predictions "
                f"({differs.iloc[0]!r} for one); they come from other data."
            )
    return (
        Predictions(kept, first.classes, first.levels),
        Predictions(found, second.classes, second.levels),
    )


def _of_split(predictions: Predictions, split: str) -> Predictions:
    rows = predictions.of_split(split)
    if not len(rows):
        there = ", ".join(predictions.splits) or "no split column"
        raise EvenhandError(f"there are no rows of the split {split!r}; there are: {there}.")
    return rows
