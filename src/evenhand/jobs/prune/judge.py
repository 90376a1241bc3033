"""Measure models on validation rows, or on halves of them, and choose the best step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import draw_patients
from evenhand.evaluation.rows import DecisionThreshold, choose_cut, metric_rows
from evenhand.metrics import Excluded, Metric, Plan, Target, attribute_groups, find_metric
from evenhand.networks.model import Model
from evenhand.reporting.charts.pruning import confirming_column
from evenhand.tables.attributes import group_of
from evenhand.tables.predictions import Predictions
from evenhand.training.predict import predict_cohorts

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


POINT = 0.01
"""One point of a metric, the unit of the budget."""

VAL = "val"
CONFIRM = confirming_column("")
"""The prefix of numbers of the confirming half of the patients."""


def target_aggregates(target: Target) -> tuple[str, ...]:
    """Return the aggregates across groups that a plan needs to measure a target."""
    if target.is_overall:
        return ()
    return (target.aggregate or target.metric.name,)


@dataclass(frozen=True, eq=False)
class Judge:
    """Measures models on validation rows.

    Attributes
    ----------
    val
        The validation cohort.
    attribute
        The attribute that the model is pruned for.
    target
        The target of the pruning.
    rank_by
        The metric that ranks the groups.
    budget, budget_metric
        The points of a metric that may be lost; None for no limit.
    excluded
        The groups that take no part, by attribute.
    halves
        The halves of the validation patients. The choosing half judges steps; numbers of the
        confirming half have names that begin with ``confirm:``. None if the same patients choose
        and confirm.
    """

    val: Cohort
    attribute: str
    target: Target
    rank_by: str
    budget: float | None
    budget_metric: str
    excluded: Excluded
    halves: Halves | None = None

    def predict(self, model: Model, accelerator: Accelerator) -> Predictions:
        """Return a model's predictions of the validation rows."""
        return predict_cohorts(model, [(VAL, self.val)], accelerator)

    def cut(self, predictions: Predictions) -> DecisionThreshold:
        """Return the decision threshold of scores of validation rows."""
        if self.target.decision_rule == "argmax":
            return DecisionThreshold(0.5, "the class with the higher score", origin="classes")
        return choose_cut(predictions)

    def values(self, predictions: Predictions) -> dict[str, float]:
        """Return numbers by name: ``auc`` of everybody, ``auc:female`` of a group, ``auc_gap``.

        Undefined numbers are NaN.
        """
        if self.halves is None:
            return _values_by_name(self._rows(predictions, self.cut(predictions)), self.attribute)
        choosing, confirming_rows = self.halves.split(predictions)
        cut = self.cut(choosing)
        confirmed = _values_by_name(self._rows(confirming_rows, cut), self.attribute)
        return {
            **_values_by_name(self._rows(choosing, cut), self.attribute),
            **{f"{CONFIRM}{name}": value for name, value in confirmed.items()},
        }

    def target_values(self, scores: NDArray[np.float64]) -> dict[str, float]:
        """Return the target and its metrics by group, of scores ``(n, C)`` of all rows."""
        column = group_of(self.val.table, self.attribute, self.val.levels)
        groups = {self.attribute: attribute_groups(self.attribute, column)}
        arguments = (self.val.labels, scores, groups, self.excluded)
        return {self.target.name: self.target.value(*arguments), **self.target.by_group(*arguments)}

    def rank_values(self, predictions: Predictions, groups: Sequence[str]) -> dict[str, float]:
        """Return each group's value of ``rank_by`` on the rows that choose.

        If the confirming half took part, it would confirm steps that its own chance has chosen.
        """
        rows = self._choosing_rows(predictions)
        values = _values_by_name(self._rows(rows, self.cut(rows)), self.attribute)
        return {group: values.get(f"{self.rank_by}:{group}", math.nan) for group in groups}

    def undefined_reason(self, predictions: Predictions, name: str) -> str:
        """Return the reason why a number by which steps are chosen is undefined."""
        rows = self._choosing_rows(predictions)
        table = self._rows(rows, self.cut(rows))
        reasons = table[(table["metric"] == name) & table["undefined"].notna()]["undefined"]
        return "; ".join(dict.fromkeys(map(str, reasons))) or "it is not a number"

    def undefined_name(self, values: Mapping[str, Any]) -> str | None:
        """Return the first undefined number of those by which steps are chosen, or None."""
        budget = () if self.budget is None else (self.budget_metric,)
        names = (self.target.row_metric, *budget)
        return next((name for name in names if math.isnan(values[name])), None)

    def within_budget(self, values: Mapping[str, float], before: Mapping[str, float]) -> bool:
        """Return whether a model has lost at most the budget; False if the loss is undefined."""
        if self.budget is None:
            return True
        name = self.budget_metric
        sign = 1 if find_metric(name).direction == "higher" else -1
        return sign * (before[name] - values[name]) <= self.budget * POINT + 1e-12

    def best_step(self, steps: Sequence[Mapping[str, Any]]) -> int:
        """Return the number of the best step within the budget; of equal ones the first."""
        allowed = [k for k, step in enumerate(steps) if self.within_budget(step, steps[0])]
        name, best = self.target.row_metric, 0
        for k in allowed:
            if self.target.beats(float(steps[k][name]), float(steps[best][name])):
                best = k
        return best

    def _choosing_rows(self, predictions: Predictions) -> Predictions:
        return predictions if self.halves is None else self.halves.split(predictions)[0]

    def _rows(self, predictions: Predictions, cut: DecisionThreshold) -> pd.DataFrame:
        metrics = dict.fromkeys(("auc", "accuracy", self.rank_by, self.budget_metric))
        if isinstance(self.target.metric, Metric):
            metrics[self.target.metric.name] = None
        plan = Plan(
            metrics=tuple(metrics),
            across=tuple(dict.fromkeys(("worst", "gap", *target_aggregates(self.target)))),
            excluded=self.excluded,
            bootstrap=None,
        )
        attributes = [self.attribute]
        return metric_rows(predictions, attributes, model="", seed=0, plan=plan, split=VAL, cut=cut)


def _values_by_name(rows: pd.DataFrame, attribute: str) -> dict[str, float]:
    """Return values by name: ``METRIC`` of everybody or across groups, else ``METRIC:GROUP``."""
    values = {}
    columns = (rows[name] for name in ("attribute", "group", "metric", "value"))
    for row_attribute, group, metric, value in zip(*columns, strict=True):
        if row_attribute in ("*", attribute):
            values[metric if group == "*" else f"{metric}:{group}"] = float(value)
    return values
