"""What a model is worth on validation, and which step of a pruning wins."""

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
from evenhand.evaluation.rows import Cut, choose_cut, metric_rows
from evenhand.jobs.prune.halves import Halves
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import Excluded, Metric, Plan, Target, attribute_groups, find_metric
from evenhand.networks.model import Model
from evenhand.reporting.charts.pruning import confirming
from evenhand.tables.attributes import group_of
from evenhand.tables.predictions import Predictions
from evenhand.training.predict import predict_cohorts

POINT = 0.01
"""A point of a metric."""

VAL = "val"
CONFIRM = confirming("")
"""Prefix of the numbers that come from the patients that confirm."""


def across_of(target: Target) -> tuple[str, ...]:
    """Return what a plan asks for across the groups, so that its rows hold the target."""
    if target.is_overall:
        return ()
    return (target.aggregate or target.metric.name,)


@dataclass(frozen=True, eq=False)
class Judge:
    """Measures models on the validation rows.

    With ``halves``, the numbers that steps are judged by are those of the patients that choose;
    names that begin with ``confirm:`` are those of the others.
    """

    val: Cohort
    attribute: str
    target: Target
    settings: PruneSettings
    excluded: Excluded
    halves: Halves | None = None

    def predict(self, model: Model, accelerator: Accelerator) -> Predictions:
        """Return what a model says about the validation rows."""
        return predict_cohorts(model, [(VAL, self.val)], accelerator)

    def cut(self, predictions: Predictions) -> Cut:
        """Return where the scores of validation rows are cut into decisions."""
        if self.target.cut == "argmax":
            return Cut(0.5, "the class with the higher score", origin="classes")
        return choose_cut(predictions)

    def values(self, predictions: Predictions) -> dict[str, float]:
        """Return numbers by name: ``auc`` of everybody, ``auc:female`` of a group, ``auc_gap``.

        A number that is undefined is NaN.
        """
        if self.halves is None:
            return _by_name(self._rows(predictions, self.cut(predictions)), self.attribute)
        choosing, others = self.halves.split(predictions)
        cut = self.cut(choosing)
        confirmed = _by_name(self._rows(others, cut), self.attribute)
        return {
            **_by_name(self._rows(choosing, cut), self.attribute),
            **{f"{CONFIRM}{name}": value for name, value in confirmed.items()},
        }

    def judged(self, scores: NDArray[np.float64]) -> dict[str, float]:
        """Return the target, and its metrics by group, of scores ``(n, C)`` of all rows."""
        column = group_of(self.val.table, self.attribute, self.val.levels)
        groups = {self.attribute: attribute_groups(self.attribute, column)}
        arguments = (self.val.labels, scores, groups, self.excluded)
        return {self.target.name: self.target.value(*arguments), **self.target.by_group(*arguments)}

    def ranks(self, predictions: Predictions, groups: Sequence[str]) -> dict[str, float]:
        """Return each group's value of ``rank_by`` on all validation rows."""
        rows = self._rows(predictions, self.cut(predictions))
        values = _by_name(rows, self.attribute)
        return {group: values.get(f"{self.settings.rank_by}:{group}", math.nan) for group in groups}

    def why_undefined(self, predictions: Predictions, name: str) -> str:
        """Return why a number that steps are judged by is undefined."""
        rows = predictions if self.halves is None else self.halves.split(predictions)[0]
        table = self._rows(rows, self.cut(rows))
        reasons = table[(table["metric"] == name) & table["undefined"].notna()]["undefined"]
        return "; ".join(dict.fromkeys(map(str, reasons))) or "it is not a number"

    def undefined(self, values: Mapping[str, Any]) -> str | None:
        """Return the name of a number that steps are judged by and that a model lacks, if any."""
        budget = () if self.settings.budget is None else (self.settings.budget_metric,)
        names = (self.target.row, *budget)
        return next((name for name in names if math.isnan(values[name])), None)

    def within_budget(self, values: Mapping[str, float], before: Mapping[str, float]) -> bool:
        """Whether a model is known not to have lost more than the budget allows."""
        budget, name = self.settings.budget, self.settings.budget_metric
        if budget is None:
            return True
        sign = 1 if find_metric(name).direction == "higher" else -1
        return sign * (before[name] - values[name]) <= budget * POINT + 1e-12

    def best(self, steps: Sequence[Mapping[str, Any]]) -> int:
        """Return the place of the step that wins: the first of the best within the budget."""
        allowed = [k for k, step in enumerate(steps) if self.within_budget(step, steps[0])]
        name, winner = self.target.row, 0
        for k in allowed:
            if self.target.beats(float(steps[k][name]), float(steps[winner][name])):
                winner = k
        return winner

    def _rows(self, predictions: Predictions, cut: Cut) -> pd.DataFrame:
        metrics = dict.fromkeys(
            ("auc", "accuracy", self.settings.rank_by, self.settings.budget_metric)
        )
        if isinstance(self.target.metric, Metric):
            metrics[self.target.metric.name] = None
        plan = Plan(
            metrics=tuple(metrics),
            across=tuple(dict.fromkeys(("worst", "gap", *across_of(self.target)))),
            excluded=self.excluded,
            bootstrap=None,
        )
        attributes = [self.attribute]
        return metric_rows(predictions, attributes, model="", seed=0, plan=plan, split=VAL, cut=cut)


def _by_name(rows: pd.DataFrame, attribute: str) -> dict[str, float]:
    """Return values by name: ``metric`` for everybody and across groups, else ``metric:group``."""
    values = {}
    columns = (rows[name] for name in ("attribute", "group", "metric", "value"))
    for own, group, metric, value in zip(*columns, strict=True):
        if own in ("*", attribute):
            values[metric if group == "*" else f"{metric}:{group}"] = float(value)
    return values
