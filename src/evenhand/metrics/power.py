"""The gap that a set of samples can detect at all. Never "observed power"."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from scipy.special import ndtri

LEVEL = 0.05
POWER = 0.8
MOST = 1e4  # times as large as a group is, and no more, is what can be asked for
BOOTSTRAP_ERROR = "bootstrap error"
"""Said of a detectable gap whose standard error comes from resamples."""


def detectable_gap(standard_error: float, *, level: float = LEVEL, power: float = POWER) -> float:
    """Return the difference that a two-sided test finds with the given power.

    Parameters
    ----------
    standard_error
        Of the estimated difference: the spread of its bootstrap replicates, or one foretold from
        counts (see `auc_error`).

    Examples
    --------
    >>> round(detectable_gap(0.05), 3)
    0.14
    """
    return float(_errors_apart(level, power) * standard_error)


@cache
def _errors_apart(level: float, power: float) -> float:
    """Return how many standard errors a difference needs to be detected with this power."""
    return float(-ndtri(level / 2) - ndtri(1 - power))


def auc_error(auc: float, positives: float, negatives: float, design_effect: float = 1.0) -> float:
    """Return the standard error of an AUC that is assumed before any score exists.

    Parameters
    ----------
    auc
        The assumed AUC, between 0 and 1.
    positives, negatives
        Numbers of samples.
    design_effect
        How many samples of these patients say as much as one independent sample does (see
        `design_effect`).

    Returns
    -------
    float
        NaN without positives or negatives.

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


def factor_for(gap: Callable[[float], float], wanted: float) -> float | None:
    """Return by what factor a group has to grow for a gap to be detectable.

    Parameters
    ----------
    gap
        The detectable gap with a group that is so many times as large; it falls with the factor.
    wanted
        The gap that is to be detectable.

    Returns
    -------
    float or None
        From 1 up; None where a group `MOST` times as large would not do, as the group that it is
        compared with is too small, too.

    Examples
    --------
    >>> factor_for(lambda factor: 0.2 / math.sqrt(factor), 0.1)
    4.0
    """
    from scipy.optimize import brentq  # takes a quarter of a second to import

    if gap(1.0) <= wanted:
        return 1.0
    if not gap(MOST) <= wanted:
        return None
    return round(float(brentq(lambda factor: gap(factor) - wanted, 1.0, MOST)), 6)
