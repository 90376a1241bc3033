"""The smallest gap that samples can detect; computed before the data, never afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import ndtri

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
