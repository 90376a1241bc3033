"""Logistic recalibration: the label on the logit of the probability, fitted by Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from evenhand.measure.registry import Floats, Form, Weights
from evenhand.measure.scored import Scored

EPSILON = 1e-7
STEPS = 40
TOLERANCE = 1e-10
LARGEST = 1e3
"""A coefficient beyond this is on its way to infinity: positives and negatives are separated."""


@dataclass(frozen=True, eq=False)
class Line:
    """Coefficients ``(b,)``; NaN where the fit has no finite solution."""

    intercept: Floats
    slope: Floats


def logistic(*, free_slope: bool) -> Form:
    """Make the form that fits intercept and slope, or the intercept beside a slope of 1."""

    def prepare(rows: Scored) -> Callable[[Weights], Line]:
        score = np.clip(rows.scores, EPSILON, 1 - EPSILON)
        order = np.lexsort((rows.patients, rows.labels, score))
        x, y = np.log(score / (1 - score))[order], rows.labels[order].astype(np.float64)
        patient = rows.patients[order]
        one_label = bool(y.min() == y.max())

        def fit(weights: Weights) -> Line:
            if one_label:
                nothing = np.full(len(weights), np.nan)
                return Line(nothing, nothing)
            return _newton(x, y, weights.take(patient, axis=1).astype(np.float64), free_slope)

        return fit

    return prepare


def _newton(x: Floats, y: Floats, weights: Floats, free_slope: bool) -> Line:
    """Fit all resamples ``(b, n)`` side by side; one that has converged is left alone.

    A step that makes the likelihood worse is halved: undamped, Newton's method can overshoot.
    """
    found = np.full((2, len(weights)), np.nan)
    active = np.arange(len(weights))
    here = np.stack([np.zeros(len(weights)), np.full(len(weights), float(not free_slope))])
    loss, step = _loss(x, y, weights, here), _step(x, y, weights, here, free_slope)
    for _ in range(STEPS):
        there = here + step
        new_loss = _loss(x, y, weights[active], there)
        worse = ~(new_loss <= loss + 1e-12 * np.abs(loss))
        here, loss = np.where(worse, here, there), np.where(worse, loss, new_loss)
        step = np.where(worse, step / 2, _step(x, y, weights[active], here, free_slope))
        size = np.abs(step).max(axis=0)
        done = size < TOLERANCE
        found[:, active[done]] = here[:, done]
        going = ~done & np.isfinite(size) & (np.abs(here).max(axis=0) < LARGEST)
        if not going.any():
            break
        active, here, step, loss = active[going], here[:, going], step[:, going], loss[going]
    return Line(*found)


def _loss(x: Floats, y: Floats, weights: Floats, at: Floats) -> Floats:
    """Return the negative log-likelihoods ``(b,)``."""
    line = at[0][:, None] + at[1][:, None] * x
    loss: Floats = np.einsum("ij,ij->i", weights, np.logaddexp(0, line) - y * line)
    return loss


def _step(x: Floats, y: Floats, weights: Floats, at: Floats, free_slope: bool) -> Floats:
    """Return Newton's steps ``(2, b)``; not finite where the curvature is none."""
    mean = expit(at[0][:, None] + at[1][:, None] * x)
    residual, variance = weights * (y - mean), weights * mean * (1 - mean)
    g0, h00 = residual.sum(axis=1), variance.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if not free_slope:
            return np.stack([g0 / h00, np.zeros_like(g0)])
        g1, h01, h11 = residual @ x, variance @ x, variance @ (x * x)
        step: Floats = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0])
        step /= h00 * h11 - h01 * h01
    return step
