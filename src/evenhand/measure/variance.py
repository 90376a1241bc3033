"""Values with their sampling variances, patients taken as the independent units."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evenhand.measure.forms import Additive, pairs
from evenhand.measure.registry import Floats, Metric, Weights
from evenhand.measure.scored import Scored

Moments = Callable[[Weights], tuple[Floats, Floats]]
"""From weights ``(b, P)``, how often each patient is there, to values and variances ``(b,)``."""

Influences = Callable[[Weights], tuple[Floats, Floats]]
"""From weights ``(b, P)`` to values ``(b,)`` and what each patient moves them by, ``(b, P)``."""

STEP = 1e-6


def has_variance(metric: Metric, rows: Scored) -> bool:
    """Return whether `moments` knows the variance of a metric on such rows."""
    if metric.classes == "two" and not rows.binary:
        return False
    return metric.form is pairs or (isinstance(metric.form, Additive) and metric.form.smooth)


def moments(metric: Metric, rows: Scored, classes: Sequence[int]) -> Moments:
    """Prepare rows, and return the function from weights to values and variances.

    The variance is that of the sum of the patients' influences on the value: for sums by the
    delta method, for the AUC from the placements of the positives and negatives of each patient
    (Obuchowski, Biometrics 1997; DeLong's variance where each patient has one row), for a mean
    over ``classes`` the mean of the influences in each.
    """
    if rows.binary or metric.classes == "any":
        problems = [rows]
    else:
        problems = [rows.versus_rest(which) for which in classes]
    each = [_influences(metric, problem) for problem in problems]

    def both(weights: Weights) -> tuple[Floats, Floats]:
        found = [of(weights) for of in each]
        value, influence = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
        there = np.maximum(np.count_nonzero(weights, axis=1), 2)
        return value, (weights * influence**2).sum(axis=1) * there / (there - 1)

    return both


def _influences(metric: Metric, rows: Scored) -> Influences:
    if isinstance(metric.form, Additive):
        return _of_sums(metric, metric.form, rows)
    return _of_auc(rows)


def _of_sums(metric: Metric, form: Additive, rows: Scored) -> Influences:
    sums = form.by_patient(rows)  # (P, k)

    def both(weights: Weights) -> tuple[Floats, Floats]:
        total = weights.astype(np.float64) @ sums
        with np.errstate(divide="ignore", invalid="ignore"):
            gradient = _gradient(lambda at: metric.value(form.summary(at)), total)
            # A value of sums does not change when all are doubled, so influences add up to 0.
            return metric.value(form.summary(total)), gradient @ sums.T

    return both


def _gradient(value: Callable[[Floats], Floats], at: Floats) -> Floats:
    """Return central differences ``(b, k)``; the rates are smooth, so they are near exact."""
    step = STEP * np.maximum(at.sum(axis=1), 1)
    columns = []
    for column in range(at.shape[1]):
        shift = np.zeros_like(at)
        shift[:, column] = step
        columns.append((value(at + shift) - value(at - shift)) / (2 * step))
    return np.stack(columns, axis=1)


def _of_auc(rows: Scored) -> Influences:
    order = np.lexsort((rows.patients, rows.scores))
    positive, score = rows.labels[order] == 1, rows.scores[order]
    patient = rows.patients[order]
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    # Where each row stands among those of the other class: how many lie below, and up to it.
    of_up = [np.searchsorted(score[down], score[up], side) for side in ("left", "right")]
    of_down = [np.searchsorted(score[up], score[down], side) for side in ("left", "right")]
    by_patient = np.argsort(np.concatenate([patient[up], patient[down]]), kind="stable")
    starts = np.searchsorted(np.sort(patient), np.arange(len(rows.members)))

    def both(weights: Weights) -> tuple[Floats, Floats]:
        w_up, w_down = (weights.take(patient[at], axis=1).astype(np.float64) for at in (up, down))
        n_up, n_down = w_up.sum(axis=1, keepdims=True), w_down.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            placed_up = _below(w_down, of_up) / n_down
            placed_down = 1 - _below(w_up, of_down) / n_up
            value = (w_up * placed_up).sum(axis=1, keepdims=True) / n_up
            influence = np.concatenate(
                [(placed_up - value) / n_up, (placed_down - value) / n_down], axis=1
            )
        return value[:, 0], np.add.reduceat(influence[:, by_patient], starts, axis=1)

    return both


def _below(weights: Floats, at: list[np.ndarray[tuple[int], np.dtype[np.intp]]]) -> Floats:
    """Return the weight below each place, ties counted half."""
    total = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=total[:, 1:])
    below: Floats = (total[:, at[0]] + total[:, at[1]]) / 2
    return below
