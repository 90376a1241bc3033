"""Logistic recalibration: the label on the logit of the probability, fitted by Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Scored

EPSILON = 1e-7
STEPS = 40
TOLERANCE = 1e-8
"""Of the last step; Newton's error after it is about its square."""


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """Coefficients ``(b,)``; NaN where the fit has no finite solution."""

    intercept: Floats
    slope: Floats


@dataclass(frozen=True, eq=False)
class Logistic:
    """The form that fits intercept and slope, or the intercept beside a slope of 1."""

    free_slope: bool

    def __call__(self, rows: Scored) -> Callable[[Weights], LogisticFit]:
        """Prepare rows, and return what fits them with weights ``(b, P)``."""
        fit = self._prepare(rows)
        return lambda weights: fit(weights)[0]

    def influences(self, rows: Scored) -> Callable[[Weights], tuple[LogisticFit, Floats]]:
        """Return what also gives by how much each row moves the slope, else the intercept.

        They are ``(b, n)``, in the order of the rows: the row's residual in the direction of the
        coefficient, over the curvature of the likelihood.
        """
        fit, place = self._prepare(rows), np.argsort(_order(rows))

        def both(weights: Weights) -> tuple[LogisticFit, Floats]:
            line, x, y, w = fit(weights)
            mean = expit(line.intercept[:, None] + line.slope[:, None] * x)
            residual, variance = y - mean, w * mean * (1 - mean)
            h00 = variance.sum(axis=1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                if not self.free_slope:
                    return line, (residual / h00)[:, place]
                h01, h11 = (variance @ power[:, None] for power in (x, x * x))
                return line, (residual * (h00 * x - h01) / (h00 * h11 - h01 * h01))[:, place]

        return both

    def _prepare(
        self, rows: Scored
    ) -> Callable[[Weights], tuple[LogisticFit, Floats, Floats, Floats]]:
        """Return what gives the fit, with x and y ``(n,)`` and weights ``(b, n)``, x rising."""
        order = _order(rows)
        score = np.clip(rows.scores, EPSILON, 1 - EPSILON)[order]
        x, y = np.log(score / (1 - score)), rows.labels[order].astype(np.float64)
        patient = rows.patients[order]
        flat = np.array([0.0, float(not self.free_slope)])
        of_all = _newton(x, y, np.ones((1, len(y))), flat, self.free_slope)[:, 0]
        start = flat if np.isnan(of_all).any() else of_all

        def fit(weights: Weights) -> tuple[LogisticFit, Floats, Floats, Floats]:
            w = weights.take(patient, axis=1).astype(np.float64)
            lines = _newton(x, y, w, start, self.free_slope)
            # From the solution of all rows it takes half the steps, and can overshoot.
            failed = np.flatnonzero(np.isnan(lines[0]))
            lines[:, failed] = _newton(x, y, w[failed], flat, self.free_slope)
            return LogisticFit(*lines), x, y, w

        return fit


def _order(rows: Scored) -> NDArray[np.intp]:
    """Return the rows in the order of their scores, whatever order they came in."""
    score = np.clip(rows.scores, EPSILON, 1 - EPSILON)
    return np.lexsort((rows.patients, rows.labels, score))


def _newton(x: Floats, y: Floats, weights: Floats, start: Floats, free_slope: bool) -> Floats:
    """Fit all resamples ``(b, n)`` side by side, x rising; NaN where there is no solution.

    Returns intercepts and slopes ``(2, b)``. A resample that has converged is left alone.
    """
    lines = np.full((2, len(weights)), np.nan)
    active = np.flatnonzero(_has_solution(x, y, weights, free_slope))
    line = np.repeat(start[:, None], len(active), axis=1)
    for _ in range(STEPS):
        step = _step(x, y, weights[active], line, free_slope)
        line = line + step
        size = np.abs(step).max(axis=0)
        done = size < TOLERANCE
        lines[:, active[done]] = line[:, done]
        going = ~done & np.isfinite(size)
        if not going.any():
            break
        active, line = active[going], line[:, going]
    return lines


def _has_solution(x: Floats, y: Floats, weights: Floats, free_slope: bool) -> NDArray[np.bool_]:
    """Return the mask ``(b,)`` of the resamples whose likelihood has a largest value.

    Both labels must be there. With a slope to fit they must also overlap: some positive lies
    below some negative, and some above (Albert & Anderson, Biometrika 1984).
    """
    up, down = (weights > 0) & (y == 1), (weights > 0) & (y == 0)
    both: NDArray[np.bool_] = up.any(axis=1) & down.any(axis=1)
    if not free_slope:
        return both
    low_up, low_down = (x[there.argmax(axis=1)] for there in (up, down))
    high_up, high_down = (x[::-1][there[:, ::-1].argmax(axis=1)] for there in (up, down))
    overlap: NDArray[np.bool_] = both & (low_up < high_down) & (low_down < high_up)
    return overlap


def _step(x: Floats, y: Floats, weights: Floats, line: Floats, free_slope: bool) -> Floats:
    """Return Newton's steps ``(2, b)``; not finite where the curvature is none."""
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
