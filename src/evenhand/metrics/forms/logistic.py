"""Logistic recalibration: regression of the label on the logit of the probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored

EPSILON = 1e-7
"""Probabilities are clipped to ``EPSILON`` … 1 − ``EPSILON``."""

STEPS = 40
"""Largest number of Newton's steps."""

TOLERANCE = 1e-8
"""Size of the last of Newton's steps; the remaining error is about its square."""


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """Coefficients ``(b,)``; NaN where the fit has no finite solution."""

    intercept: Floats
    slope: Floats


@dataclass(frozen=True, eq=False)
class Logistic:
    """The form of a logistic fit: intercept and slope, or the intercept with the slope fixed at 1.

    Attributes
    ----------
    free_slope
        Whether the slope is fitted.
    """

    free_slope: bool

    def __call__(self, rows: Scored) -> Callable[[Weights], LogisticFit]:
        """Return the function that fits some rows with weights ``(b, P)``."""
        fit = self._prepare(rows)
        return lambda weights: fit(weights)[0]

    def influences(self, rows: Scored) -> Callable[[Weights], tuple[LogisticFit, Floats]]:
        """Return the function that also computes the influences ``(b, n)`` of the rows.

        The influence is that on the slope, or on the intercept if the slope is fixed: the row's
        residual in the direction of the coefficient, over the curvature of the likelihood.
        """
        fit, inverse = self._prepare(rows), np.argsort(_order(rows))

        def fit_and_influences(weights: Weights) -> tuple[LogisticFit, Floats]:
            line, x, y, w = fit(weights)
            mean = expit(line.intercept[:, None] + line.slope[:, None] * x)
            residual, variance = y - mean, w * mean * (1 - mean)
            h00 = variance.sum(axis=1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                if not self.free_slope:
                    return line, (residual / h00)[:, inverse]
                h01, h11 = (variance @ power[:, None] for power in (x, x * x))
                return line, (residual * (h00 * x - h01) / (h00 * h11 - h01 * h01))[:, inverse]

        return fit_and_influences

    def _prepare(
        self, rows: Scored
    ) -> Callable[[Weights], tuple[LogisticFit, Floats, Floats, Floats]]:
        """Return the function that fits some rows with weights ``(b, P)``.

        It returns the fit; x (the logits) and y (the labels), ``(n,)`` each, sorted by x; and the
        weights ``(b, n)`` of the rows.
        """
        order = _order(rows)
        score = np.clip(rows.scores, EPSILON, 1 - EPSILON)[order]
        x, y = np.log(score / (1 - score)), rows.labels[order].astype(np.float64)
        patient = rows.patients[order]
        flat = np.array([0.0, float(not self.free_slope)])
        data = _newton(x, y, np.ones((1, len(y))), flat, self.free_slope)[:, 0]
        start = flat if np.isnan(data).any() else data

        def fit(weights: Weights) -> tuple[LogisticFit, Floats, Floats, Floats]:
            w = weights.take(patient, axis=1).astype(np.float64)
            lines = _newton(x, y, w, start, self.free_slope)
            # The start at the solution of the data halves the number of steps, but may overshoot.
            failed = np.flatnonzero(np.isnan(lines[0]))
            lines[:, failed] = _newton(x, y, w[failed], flat, self.free_slope)
            return LogisticFit(*lines), x, y, w

        return fit


def _order(rows: Scored) -> NDArray[np.intp]:
    """Return the order of the rows by score; it does not depend on the order that they have."""
    score = np.clip(rows.scores, EPSILON, 1 - EPSILON)
    return np.lexsort((rows.patients, rows.labels, score))


def _newton(x: Floats, y: Floats, weights: Floats, start: Floats, free_slope: bool) -> Floats:
    """Return intercepts and slopes ``(2, b)`` by Newton's method; NaN where there is no solution.

    Parameters
    ----------
    x, y
        Logits and labels ``(n,)``, sorted by x.
    weights
        ``(b, n)``, the weights of the rows in each resample.
    start
        ``(2,)``, the intercept and slope to begin with.
    free_slope
        Whether the slope is fitted.
    """
    lines = np.full((2, len(weights)), np.nan)
    active = np.flatnonzero(_has_solution(x, y, weights, free_slope))
    line = np.repeat(start[:, None], len(active), axis=1)
    for _ in range(STEPS):
        step = _step(x, y, weights[active], line, free_slope)
        line = line + step
        size = np.abs(step).max(axis=0)
        converged = size < TOLERANCE
        lines[:, active[converged]] = line[:, converged]
        remaining = ~converged & np.isfinite(size)
        if not remaining.any():
            break
        active, line = active[remaining], line[:, remaining]
    return lines


def _has_solution(x: Floats, y: Floats, weights: Floats, free_slope: bool) -> NDArray[np.bool_]:
    """Return the mask ``(b,)`` of the resamples whose likelihood has a maximum.

    Both labels must occur. If the slope is fitted the labels must also overlap: some positive lies
    below some negative, and some positive above some negative (Albert & Anderson, Biometrika 1984).
    """
    up, down = (weights > 0) & (y == 1), (weights > 0) & (y == 0)
    has_both: NDArray[np.bool_] = up.any(axis=1) & down.any(axis=1)
    if not free_slope:
        return has_both
    low_up, low_down = (x[mask.argmax(axis=1)] for mask in (up, down))
    high_up, high_down = (x[::-1][mask[:, ::-1].argmax(axis=1)] for mask in (up, down))
    overlap: NDArray[np.bool_] = has_both & (low_up < high_down) & (low_down < high_up)
    return overlap


def _step(x: Floats, y: Floats, weights: Floats, line: Floats, free_slope: bool) -> Floats:
    """Return Newton's steps ``(2, b)``; not finite where the curvature is 0."""
    mean = expit(line[0][:, None] + line[1][:, None] * x)
    residual, variance = weights * (y - mean), weights * mean * (1 - mean)
    g0, h00 = residual.sum(axis=1), variance.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if not free_slope:
            return np.stack([g0 / h00, np.zeros_like(g0)])
        g1, h01, h11 = residual @ x, variance @ x, variance @ (x * x)
        step: Floats = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0])
        step /= h00 * h11 - h01 * h01
    return step
