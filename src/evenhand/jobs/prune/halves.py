"""Two halves of the validation patients: one chooses the step that wins, the other confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import draw_patients
from evenhand.tables.attributes import group_of
from evenhand.tables.predictions import Predictions

PATIENTS = 10
"""Patients with the positive label, and without it, that each group needs in each half."""


@dataclass(frozen=True)
class Halves:
    """The patients that choose; all others confirm."""

    choosing: frozenset[str]

    def split(self, predictions: Predictions) -> tuple[Predictions, Predictions]:
        """Return the rows of the patients that choose, and of those that confirm."""
        chooses = predictions.table["patient_id"].isin(self.choosing)
        first, second = (
            Predictions(
                predictions.table[rows].reset_index(drop=True),
                predictions.classes,
                predictions.levels,
            )
            for rows in (chooses, ~chooses)
        )
        return first, second


def halve(
    cohort: Cohort, attribute: str, groups: Sequence[str], rng: np.random.Generator
) -> Halves | None:
    """Divide the patients of a cohort, stratified by label and attribute as splits are.

    Parameters
    ----------
    cohort
        The validation cohort.
    attribute, groups
        The attribute that the model is pruned for, and the groups of it that are compared.
    rng
        Draws the half of each patient.

    Returns
    -------
    Halves or None
        None where a half would hold fewer than ``PATIENTS`` patients with or without the positive
        label in some group; with more than two classes, fewer than twice as many patients.
    """
    part = draw_patients(cohort, 0.5, [attribute], rng)
    choosing = frozenset(part.table["patient_id"].astype(str))
    rest = cohort.select(~cohort.table["patient_id"].astype(str).isin(choosing))
    if all(_holds_enough(half, attribute, groups) for half in (part, rest)):
        return Halves(choosing)
    return None


def _holds_enough(cohort: Cohort, attribute: str, groups: Sequence[str]) -> bool:
    binary = len(cohort.classes) == 2
    patients = cohort.table.assign(
        group=group_of(cohort.table, attribute, cohort.levels).astype(str),
        kind=cohort.table["label"] if binary else 0,
    ).drop_duplicates(["patient_id", "group", "kind"])
    counts = patients.groupby(["group", "kind"]).size()
    least = PATIENTS if binary else 2 * PATIENTS
    kinds = (0, 1) if binary else (0,)
    return all(counts.get((group, kind), 0) >= least for group in groups for kind in kinds)
