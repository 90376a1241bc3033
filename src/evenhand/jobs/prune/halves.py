"""Two halves of the validation patients: one half chooses a step, the other confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import draw_patients
from evenhand.tables.attributes import group_of
from evenhand.tables.predictions import Predictions

PATIENTS = 10
"""The least number of patients with each label that each group has in each half."""


@dataclass(frozen=True)
class Halves:
    """The patients of the half that chooses a step; all other patients confirm it."""

    choosing: frozenset[str]

    def split(self, predictions: Predictions) -> tuple[Predictions, Predictions]:
        """Return the rows of the choosing half, and those of the confirming half."""
        is_choosing = predictions.table["patient_id"].isin(self.choosing)
        first, second = (
            Predictions(
                predictions.table[rows].reset_index(drop=True),
                predictions.classes,
                predictions.levels,
            )
            for rows in (is_choosing, ~is_choosing)
        )
        return first, second


def halve(
    cohort: Cohort, attribute: str, groups: Sequence[str], rng: np.random.Generator
) -> Halves | None:
    """Divide the patients of a cohort into halves, stratified by label and attribute.

    Parameters
    ----------
    cohort
        The validation cohort.
    attribute, groups
        The attribute that the model is pruned for, and its compared groups.
    rng
        The generator that draws the half of each patient.

    Returns
    -------
    Halves or None
        None if a half has too few patients of some group: fewer than ``PATIENTS`` with one of two
        labels, or with more than two classes fewer than twice as many in all.
    """
    choosing_half = draw_patients(cohort, 0.5, [attribute], rng)
    choosing = frozenset(choosing_half.table["patient_id"].astype(str))
    confirming_half = cohort.select(~cohort.table["patient_id"].astype(str).isin(choosing))
    if all(_has_enough(half, attribute, groups) for half in (choosing_half, confirming_half)):
        return Halves(choosing)
    return None


def _has_enough(cohort: Cohort, attribute: str, groups: Sequence[str]) -> bool:
    binary = len(cohort.classes) == 2
    patients = cohort.table.assign(
        group=group_of(cohort.table, attribute, cohort.levels).astype(str),
        kind=cohort.table["label"] if binary else 0,
    ).drop_duplicates(["patient_id", "group", "kind"])
    counts = patients.groupby(["group", "kind"]).size()
    least = PATIENTS if binary else 2 * PATIENTS
    kinds = (0, 1) if binary else (0,)
    return all(counts.get((group, kind), 0) >= least for group in groups for kind in kinds)
