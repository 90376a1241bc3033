"""Logistic regression with an offset and a ridge penalty on every coefficient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Floats


def fit_offset_logistic(
    features: Floats, labels: NDArray[np.int64], offset: Floats, ridge: float
) -> Floats:
    """Return the coefficients ``(D,)`` that minimise the log loss plus a ridge penalty.

    The loss is ``sum_i -log P(y_i | offset_i + features_i · w) + ridge/2 · |w|²``. It is convex;
    with ``ridge`` above 0 the solution is unique and finite.

    Parameters
    ----------
    features
        ``(n, D)``.
    labels
        ``(n,)``, 0 or 1.
    offset
        ``(n,)``, fixed log-odds.
    ridge
        Strength of the penalty, ≥ 0.

    Raises
    ------
    EvenhandError
        If the solver finds no minimum (without a penalty, there is none for separable labels).

    Examples
    --------
    >>> fit_offset_logistic(np.ones((4, 1)), np.array([0, 1, 1, 1]), np.zeros(4), 0.0).round(3)
    array([1.099])
    """
    from scipy.optimize import minimize  # takes a quarter of a second to import

    target = labels.astype(np.float64)

    def loss(weights: Floats) -> tuple[float, Floats]:
        log_odds = offset + features @ weights
        value = np.logaddexp(0, log_odds).sum() - target @ log_odds
        gradient = features.T @ (expit(log_odds) - target)
        return float(value + ridge / 2 * weights @ weights), gradient + ridge * weights

    def curvature(weights: Floats) -> Floats:
        share = expit(offset + features @ weights)
        weighted = features * (share * (1 - share))[:, None]
        return weighted.T @ features + ridge * np.eye(features.shape[1])

    start = np.zeros(features.shape[1])
    result = minimize(
        loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-8}
    )
    if not result.success and np.abs(result.jac).max() > 1e-4 * len(labels):
        raise EvenhandError(
            f"the logistic regression found no minimum ({result.message}); give a ridge above 0."
        )
    weights: Floats = result.x
    return weights
