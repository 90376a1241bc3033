"""The influence of each patient on a metric, and sampling variances from these influences.

An influence is the derivative of the metric's value by the patient's weight. The weighted sum of
all influences is 0, as no metric changes when every weight is doubled. The sum of their squares is
the variance of the value (Hampel, JASA 1974).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.forms import Additive, Logistic, bins, curve, rowwise
from evenhand.metrics.registry import Floats, Metric, Weights
from evenhand.metrics.scored import Scored

Influences = Callable[[Weights], tuple[Floats, Floats]]
"""Function of weights ``(b, P)``; returns values ``(b,)`` and influences ``(b, P)``."""

Moments = Callable[[Weights], tuple[Floats, Floats]]
"""Function of weights ``(b, P)``; returns values and their variances, ``(b,)`` each."""

STEP = 1e-6
"""Step of the numerical derivative, as a share of the sum."""


def influences(metric: Metric, rows: Scored) -> Influences:
    """Return the function that computes values and influences of a metric on some rows.

    The rows have two classes, or more if the metric takes any number of classes.
    """
    if isinstance(metric.form, Additive):
        return _of_sums(metric, metric.form, rows)
    return _CLOSED_FORMS[metric.name.partition("[")[0]](metric, rows)


def why_no_influence(metric: Metric) -> str | None:
    """Return why the influences on a metric are unknown, or None where they are known."""
    if metric.name.partition("[")[0] in _CLOSED_FORMS:
        return None
    if isinstance(metric.form, Additive) and metric.form.smooth:
        return None
    if metric.form is bins:
        return (
            "chance raises distances in bins, and more so in smaller groups, so unequal sizes "
            "alone would reject equality"
        )
    if metric.form is curve:
        return "its error depends on the density of the scores at the threshold, which is unknown"
    return "its variance has no known closed form, so the error rate of a test cannot be kept"


def _of_sums(metric: Metric, form: Additive, rows: Scored) -> Influences:
    """Return the influences on a function of sums, by the delta method."""
    sums = form.by_patient(rows)  # (P, k)

    def values_and_influences(weights: Weights) -> tuple[Floats, Floats]:
        total = weights.astype(np.float64) @ sums
        with np.errstate(divide="ignore", invalid="ignore"):
            gradient = _gradient(lambda sums: metric.value(form.summary(sums)), total)
            return metric.value(form.summary(total)), gradient @ sums.T

    return values_and_influences


def _gradient(value: Callable[[Floats], Floats], total: Floats) -> Floats:
    """Return the gradient ``(b, k)`` by central differences."""
    step = STEP * np.maximum(total.sum(axis=1), 1)
    columns = []
    for column in range(total.shape[1]):
        shift = np.zeros_like(total)
        shift[:, column] = step
        columns.append((value(total + shift) - value(total - shift)) / (2 * step))
    return np.stack(columns, axis=1)


def _of_auc(_: Metric, rows: Scored) -> Influences:
    """Return the influences on the AUC, from the placements of rows (Obuchowski 1997)."""
    order = np.lexsort((rows.patients, rows.scores))
    positive, score = rows.labels[order] == 1, rows.scores[order]
    patient = rows.patients[order]
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    # For each row, the numbers of rows of the other class with a lower score, and up to its score.
    up_ends = [np.searchsorted(score[down], score[up], side) for side in ("left", "right")]
    down_ends = [np.searchsorted(score[up], score[down], side) for side in ("left", "right")]
    sum_by_patient = _by_patient(np.concatenate([patient[up], patient[down]]))

    def values_and_influences(weights: Weights) -> tuple[Floats, Floats]:
        w_up, w_down = (
            weights.take(patient[rows_of], axis=1).astype(np.float64) for rows_of in (up, down)
        )
        n_up, n_down = w_up.sum(axis=1, keepdims=True), w_down.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            placed_up = _weight_below(w_down, up_ends) / n_down
            placed_down = 1 - _weight_below(w_up, down_ends) / n_up
            value = (w_up * placed_up).sum(axis=1, keepdims=True) / n_up
            influence = np.concatenate(
                [(placed_up - value) / n_up, (placed_down - value) / n_down], axis=1
            )
        return value[:, 0], sum_by_patient(influence)

    return values_and_influences


def _weight_below(weights: Floats, ends: list[np.ndarray[tuple[int], np.dtype[np.intp]]]) -> Floats:
    """Return the total weight of lower scores; tied scores count half."""
    total = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=total[:, 1:])
    below: Floats = (total[:, ends[0]] + total[:, ends[1]]) / 2
    return below


def _of_auprc(metric: Metric, rows: Scored) -> Influences:
    """Return the influences on the average precision.

    A row adds its own precision, and lowers the precision at every lower score.
    """
    count, levels = curve(rows), np.unique(-rows.scores, return_inverse=True)[1]
    positive, sum_by_patient = rows.labels == 1, _by_patient(rows.patients)

    def values_and_influences(weights: Weights) -> tuple[Floats, Floats]:
        steps = count(weights)
        flagged, gained = steps.tp + steps.fp, np.diff(steps.tp, axis=1, prepend=0.0)
        precision, share = (
            np.divide(counts, flagged, out=np.zeros_like(flagged), where=flagged > 0)
            for counts in (steps.tp, gained)
        )
        value = metric.value(steps)
        added = precision - value[:, None] + _sum_to_end(share)
        removed = _sum_to_end(share * precision)
        with np.errstate(divide="ignore", invalid="ignore"):
            influence = (positive * added[:, levels] - removed[:, levels]) / steps.tp[:, -1:]
        return value, sum_by_patient(influence)

    return values_and_influences


def _sum_to_end(parts: Floats) -> Floats:
    """Return the sums ``(b, m)`` of each column and all columns to its right."""
    return np.cumsum(parts[:, ::-1], axis=1)[:, ::-1]


def _of_calibration(metric: Metric, rows: Scored) -> Influences:
    """Return the influences on a coefficient of the logistic recalibration."""
    form = metric.form
    if not isinstance(form, Logistic):
        raise TypeError(f"{metric.name} is no coefficient of a logistic fit")
    fit, sum_by_patient = form.influences(rows), _by_patient(rows.patients)

    def values_and_influences(weights: Weights) -> tuple[Floats, Floats]:
        line, influence = fit(weights)
        return metric.value(line), sum_by_patient(influence)

    return values_and_influences


def _of_net_benefit_at(metric: Metric, rows: Scored) -> Influences:
    """Return the influences on the mean gain of the rows at a fixed threshold."""
    if not isinstance(metric.value, partial):
        raise TypeError(f"{metric.name} has no threshold")
    threshold = metric.value.keywords["at"]
    odds = threshold / (1 - threshold)
    gain = rowwise(
        lambda scored: (scored.scores >= threshold) * np.where(scored.labels == 1, 1, -odds)
    )
    return _of_sums(replace(metric, form=gain, value=lambda mean: mean.value), gain, rows)


def _by_patient(patients: NDArray[np.intp]) -> Callable[[Floats], Floats]:
    """Return the function that sums values of rows ``(b, n)`` over the patients, ``(b, P)``."""
    order = np.argsort(patients, kind="stable")
    starts = np.searchsorted(patients[order], np.arange(patients.max() + 1))
    return lambda values: np.add.reduceat(values[:, order], starts, axis=1)


_CLOSED_FORMS: dict[str, Callable[[Metric, Scored], Influences]] = {
    "auc": _of_auc,
    "auprc": _of_auprc,
    "calibration_slope": _of_calibration,
    "calibration_intercept": _of_calibration,
    "net_benefit_at": _of_net_benefit_at,
}
"""Influences of the metrics that are no smooth function of sums."""


def moments(metric: Metric, rows: Scored, classes: Sequence[int]) -> Moments:
    """Return the function that computes values and sampling variances of a metric on some rows.

    Patients are the independent units. The variance is that of the sum of the patients' influences:
    the delta method for sums; DeLong's variance for the AUC if each patient has one row. For a mean
    over ``classes`` the influences are averaged over the classes.
    """
    if rows.binary or metric.classes == "any":
        problems = [rows]
    else:
        problems = [rows.versus_rest(class_index) for class_index in classes]
        metric = metric.of_one_class()
    functions = [influences(metric, problem) for problem in problems]

    def values_and_variances(weights: Weights) -> tuple[Floats, Floats]:
        results = [function(weights) for function in functions]
        value, influence = (np.mean(arrays, axis=0) for arrays in zip(*results, strict=True))
        patients = np.maximum(np.count_nonzero(weights, axis=1), 2)
        return value, (weights * influence**2).sum(axis=1) * patients / (patients - 1)

    return values_and_variances
