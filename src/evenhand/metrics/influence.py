"""What each patient moves a metric by: what variances are made from.

An influence is the derivative of the value by the patient's weight. Weighted, the influences of all
patients add up to 0, as no metric changes when every weight is doubled; their squares add up to
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
"""From weights ``(b, P)`` to values ``(b,)`` and what each patient moves them by, ``(b, P)``."""

Moments = Callable[[Weights], tuple[Floats, Floats]]
"""Function of weights ``(b, P)``; returns values and their variances, ``(b,)`` each."""

STEP = 1e-6


def influences(metric: Metric, rows: Scored) -> Influences:
    """Prepare rows of two classes, or of any number where the metric takes them as they are."""
    if isinstance(metric.form, Additive):
        return _of_sums(metric, metric.form, rows)
    return _CLOSED[metric.name.partition("[")[0]](metric, rows)


def why_no_influence(metric: Metric) -> str | None:
    """Return why the influences on a metric are not known, or None where they are."""
    if metric.name.partition("[")[0] in _CLOSED:
        return None
    if isinstance(metric.form, Additive) and metric.form.smooth:
        return None
    if metric.form is bins:
        return (
            "distances in bins are raised by chance, the more so in a small group, so that unequal "
            "sizes alone would reject"
        )
    if metric.form is curve:
        return "its error depends on how dense the scores are at the threshold, which is not known"
    return "no variance in closed form is known, so that nothing keeps the test's level"


def _of_sums(metric: Metric, form: Additive, rows: Scored) -> Influences:
    sums = form.by_patient(rows)  # (P, k)

    def both(weights: Weights) -> tuple[Floats, Floats]:
        total = weights.astype(np.float64) @ sums
        with np.errstate(divide="ignore", invalid="ignore"):
            gradient = _gradient(lambda sums: metric.value(form.summary(sums)), total)
            return metric.value(form.summary(total)), gradient @ sums.T

    return both


def _gradient(value: Callable[[Floats], Floats], total: Floats) -> Floats:
    """Return central differences ``(b, k)``; the rates are smooth, so they are near exact."""
    step = STEP * np.maximum(total.sum(axis=1), 1)
    columns = []
    for column in range(total.shape[1]):
        shift = np.zeros_like(total)
        shift[:, column] = step
        columns.append((value(total + shift) - value(total - shift)) / (2 * step))
    return np.stack(columns, axis=1)


def _of_auc(_: Metric, rows: Scored) -> Influences:
    """Return the placements of each patient's positives and negatives (Obuchowski 1997)."""
    order = np.lexsort((rows.patients, rows.scores))
    positive, score = rows.labels[order] == 1, rows.scores[order]
    patient = rows.patients[order]
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    # Where each row stands among those of the other class: how many lie below, and up to it.
    of_up = [np.searchsorted(score[down], score[up], side) for side in ("left", "right")]
    of_down = [np.searchsorted(score[up], score[down], side) for side in ("left", "right")]
    add_up = _by_patient(np.concatenate([patient[up], patient[down]]))

    def both(weights: Weights) -> tuple[Floats, Floats]:
        w_up, w_down = (
            weights.take(patient[rows_of], axis=1).astype(np.float64) for rows_of in (up, down)
        )
        n_up, n_down = w_up.sum(axis=1, keepdims=True), w_down.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            placed_up = _below(w_down, of_up) / n_down
            placed_down = 1 - _below(w_up, of_down) / n_up
            value = (w_up * placed_up).sum(axis=1, keepdims=True) / n_up
            influence = np.concatenate(
                [(placed_up - value) / n_up, (placed_down - value) / n_down], axis=1
            )
        return value[:, 0], add_up(influence)

    return both


def _below(weights: Floats, ends: list[np.ndarray[tuple[int], np.dtype[np.intp]]]) -> Floats:
    """Return the weight below each place, ties counted half."""
    total = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=total[:, 1:])
    below: Floats = (total[:, ends[0]] + total[:, ends[1]]) / 2
    return below


def _of_auprc(metric: Metric, rows: Scored) -> Influences:
    """Return what a row adds by itself, and takes from the precision at every score below it."""
    count, levels = curve(rows), np.unique(-rows.scores, return_inverse=True)[1]
    positive, add_up = rows.labels == 1, _by_patient(rows.patients)

    def both(weights: Weights) -> tuple[Floats, Floats]:
        steps = count(weights)
        flagged, gained = steps.tp + steps.fp, np.diff(steps.tp, axis=1, prepend=0.0)
        precision, share = (
            np.divide(part, flagged, out=np.zeros_like(flagged), where=flagged > 0)
            for part in (steps.tp, gained)
        )
        value = metric.value(steps)
        adds = precision - value[:, None] + _from_here_on(share)
        takes = _from_here_on(share * precision)
        with np.errstate(divide="ignore", invalid="ignore"):
            influence = (positive * adds[:, levels] - takes[:, levels]) / steps.tp[:, -1:]
        return value, add_up(influence)

    return both


def _from_here_on(parts: Floats) -> Floats:
    """Return the sums ``(b, m)`` of each column and all to its right."""
    return np.cumsum(parts[:, ::-1], axis=1)[:, ::-1]


def _of_calibration(metric: Metric, rows: Scored) -> Influences:
    form = metric.form
    if not isinstance(form, Logistic):
        raise TypeError(f"{metric.name} is no coefficient of a logistic fit")
    fit, add_up = form.influences(rows), _by_patient(rows.patients)

    def both(weights: Weights) -> tuple[Floats, Floats]:
        line, influence = fit(weights)
        return metric.value(line), add_up(influence)

    return both


def _of_net_benefit_at(metric: Metric, rows: Scored) -> Influences:
    """Return a mean's influences: the threshold is given, so that each row has its gain."""
    if not isinstance(metric.value, partial):
        raise TypeError(f"{metric.name} is at no number")
    threshold = metric.value.keywords["at"]
    odds = threshold / (1 - threshold)
    gain = rowwise(lambda part: (part.scores >= threshold) * np.where(part.labels == 1, 1, -odds))
    return _of_sums(replace(metric, form=gain, value=lambda mean: mean.value), gain, rows)


def _by_patient(patients: NDArray[np.intp]) -> Callable[[Floats], Floats]:
    """Return the function that adds up what rows ``(b, n)`` have, ``(b, P)`` for the patients."""
    order = np.argsort(patients, kind="stable")
    starts = np.searchsorted(patients[order], np.arange(patients.max() + 1))
    return lambda of_rows: np.add.reduceat(of_rows[:, order], starts, axis=1)


_CLOSED: dict[str, Callable[[Metric, Scored], Influences]] = {
    "auc": _of_auc,
    "auprc": _of_auprc,
    "calibration_slope": _of_calibration,
    "calibration_intercept": _of_calibration,
    "net_benefit_at": _of_net_benefit_at,
}
"""The metrics whose form is no smooth sum, and whose influences are known even so."""


def moments(metric: Metric, rows: Scored, classes: Sequence[int]) -> Moments:
    """Prepare rows, and return the function from weights to values and variances.

    The variance is that of the sum of the patients' influences on the value: for sums by the
    delta method, for the AUC DeLong's where each patient has one row, for a mean over ``classes``
    from the mean of the influences in each.
    """
    if rows.binary or metric.classes == "any":
        problems = [rows]
    else:
        problems = [rows.versus_rest(which) for which in classes]
        metric = metric.of_one_class()
    each = [influences(metric, problem) for problem in problems]

    def both(weights: Weights) -> tuple[Floats, Floats]:
        parts = [estimate(weights) for estimate in each]
        value, influence = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
        there = np.maximum(np.count_nonzero(weights, axis=1), 2)
        return value, (weights * influence**2).sum(axis=1) * there / (there - 1)

    return both
