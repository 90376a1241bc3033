"""The smallest gap that samples can detect, computed before the data; tests of equal frequency."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

LEVEL = 0.05
POWER = 0.8
DETECTABLE_ERRORS = float(-ndtri(LEVEL / 2) - ndtri(1 - POWER))
"""The detectable difference, in standard errors."""
MAX_FACTOR = 1e4
"""Largest factor by which a group may have to grow."""

BOOTSTRAP_ERROR = "bootstrap error"
"""Note on a detectable gap whose standard error comes from resamples."""


def detectable_gap(standard_error: float) -> float:
    """Return the difference that a two-sided test at `LEVEL` finds with the power `POWER`.

    Parameters
    ----------
    standard_error
        The standard error of the estimated difference: from bootstrap replicates, or predicted
        from counts (see `auc_error`).

    Examples
    --------
    >>> round(detectable_gap(0.05), 3)
    0.14
    """
    return float(DETECTABLE_ERRORS * standard_error)


def auc_error(auc: float, positives: float, negatives: float, design_effect: float = 1.0) -> float:
    """Return the standard error of an assumed AUC, given the numbers of samples.

    Parameters
    ----------
    auc
        The assumed AUC, between 0 and 1.
    positives, negatives
        Numbers of samples.
    design_effect
        The number of samples of these patients that are worth one independent sample (see
        `design_effect`).

    Returns
    -------
    float
        The standard error; NaN without positives or negatives.

    Notes
    -----
    Hanley & McNeil, Radiology 1982, with exponentially distributed scores.

    Examples
    --------
    >>> round(auc_error(0.8, 50, 100), 4)
    0.0412
    """
    if min(positives, negatives) <= 0:
        return math.nan
    n_up, n_down = positives / design_effect, negatives / design_effect
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (n_up - 1) * (q1 - auc**2) + (n_down - 1) * (q2 - auc**2)
    return math.sqrt(max(spread, 0.0) / (n_up * n_down))


def design_effect(samples_per_patient: float, correlation: float) -> float:
    """Return 1 + (m − 1) ρ for m samples per patient that correlate by ρ (Kish 1965).

    Examples
    --------
    >>> design_effect(5, 0.5)
    3.0
    """
    return 1 + (samples_per_patient - 1) * correlation


def factor_for(gap: Callable[[float], float], target: float) -> float | None:
    """Return the factor by which a group has to grow so that a gap becomes detectable.

    Parameters
    ----------
    gap
        Function of the factor that returns the detectable gap; it decreases.
    target
        The gap that should be detectable.

    Returns
    -------
    float or None
        The factor, at least 1. None if a factor of `MAX_FACTOR` is not enough, because the group
        that it is compared with is too small as well.

    Examples
    --------
    >>> factor_for(lambda factor: 0.2 / math.sqrt(factor), 0.1)
    4.0
    """
    from scipy.optimize import brentq  # takes a quarter of a second to import

    if gap(1.0) <= target:
        return 1.0
    if not gap(MAX_FACTOR) <= target:
        return None
    return round(float(brentq(lambda factor: gap(factor) - target, 1.0, MAX_FACTOR)), 6)


def equal_rates_p(
    outcome: NDArray[np.bool_],
    group: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    patients: NDArray[np.intp],
) -> float:
    """Return the two-sided p-value of "the rate is the same in both groups".

    It is a score test with patients as units. The standard error is computed under equal rates, so
    a group in which nobody has the outcome has an error, too. Rows of one patient may be
    correlated.

    Parameters
    ----------
    outcome
        ``(n,)``, whether each row has the outcome.
    group, reference
        ``(n,)``, whether each row belongs to the group, or to the reference group. Rows that
        belong to neither are ignored.
    patients
        ``(n,)``, the number of each row's patient, from 0.

    Returns
    -------
    float
        The p-value. NaN if a group has no rows; 1 if all rows have the outcome, or no row has it.

    Notes
    -----
    The variance is the larger of two estimates. The first is the sum of the squared contributions
    of each patient to the difference. The second is the variance of a row, from all patients,
    divided by the number of rows of each group. If each patient has one row, the square of the
    second statistic is Pearson's chi-squared. The degrees of freedom are the number of patients of
    the smaller group less one.

    Examples
    --------
    >>> import numpy as np
    >>> outcome = np.repeat([True, False, True, False], [10, 90, 30, 70])
    >>> first = np.arange(200) < 100
    >>> round(equal_rates_p(outcome, first, ~first, np.arange(200)), 4)
    0.0006
    """
    if not group.any() or not reference.any():
        return float("nan")
    either = group | reference
    rate = float(outcome[either].mean())
    if rate in (0.0, 1.0):
        return 1.0
    weight = group / group.sum() - reference / reference.sum()
    difference = float(weight @ outcome)
    residual = either * (outcome - rate)
    by_patient = (np.bincount(patients, weight * residual) ** 2).sum()
    by_row = (np.bincount(patients, residual) ** 2).sum() / either.sum()
    error = np.sqrt(max(by_patient, by_row * (1 / group.sum() + 1 / reference.sum())))
    fewest = min(len(np.unique(patients[rows])) for rows in (group, reference))
    return float(2 * stdtr(max(fewest - 1, 1), -abs(difference) / error))
