"""Differences of two training recipes, with several models of each.

The value of a recipe is the mean over its models, which differ only in their seed. Other patients
and other seeds would each change the difference, so its variance has two parts. Both recipes are
scored on the same patients (paired); their seeds are independent (unpaired).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from evenhand.metrics.registry import Floats

DEFINED = 0.95
"""Share of the resamples that must have a value for there to be an interval."""

LUCK_SHARE = 0.25
"""Share of the models' own luck with patients that gets the patients' degrees of freedom."""

SMALLEST = 1e-12  # error of a difference that is the same in every resample and for every seed


@dataclass(frozen=True)
class RecipeDifference:
    """The value of one recipe less that of another.

    Attributes
    ----------
    value
        Mean over the seeds of one less mean over the seeds of the other, on the data.
    low, high
        The interval at the level that was asked for.
    p
        Of "no difference", two-sided.
    error
        Standard error: patients and, where both recipes have several seeds, seeds.
    freedom
        Satterthwaite's degrees of freedom of the error.
    """

    value: float
    low: float
    high: float
    p: float
    error: float
    freedom: float


@dataclass(frozen=True)
class SeedSpread:
    """The variance between the seeds of a recipe, where it is estimated elsewhere.

    Attributes
    ----------
    variance
        Of one seed's value, on the data.
    freedom
        Its degrees of freedom.
    """

    variance: float
    freedom: int


def recipe_difference(
    first: Floats,
    second: Floats,
    patients: int,
    *,
    level: float = 0.95,
    spread: SeedSpread | None = None,
) -> RecipeDifference | None:
    """Return the difference of two recipes, with a t interval over patients and seeds.

    Parameters
    ----------
    first, second
        Values ``(S, 1 + B)`` of each recipe: a row for each seed, the data first, then B resamples
        of patients, the same ones for all seeds and both recipes. S may differ.
    patients
        How many patients the value rests on, of the rarer class where it needs both: the patients'
        part of the variance has one degree of freedom less.
    level
        Confidence level of the interval.
    spread
        Of the first recipe's values, where more is known of it than the S values on the data say.

    Returns
    -------
    RecipeDifference or None
        None where a value is undefined on the data, or in more than one resample in 20.

    Notes
    -----
    With ``v`` the bootstrap's variance of the difference of means, ``s²`` the variance between the
    seeds of a recipe on the data, and ``i`` the part of ``s²`` that another draw of patients would
    change (the bootstrap's variance of a seed's distance from its recipe's mean), the variance is
    ``v + Σ max(s² − i, 0) / S``, as ``v`` holds ``Σ i / S`` already: a model's own luck with these
    patients is counted once. Degrees of freedom are Satterthwaite's (Biometrics Bulletin 1946), of
    the parts ``(max(s², i) − i / 4) / S`` with S − 1 each and of the rest with the patients'. Of
    ``i``, which is estimated better than ``s²``, a quarter gets the patients' degrees of freedom: a
    larger share breaks the level in small samples, a smaller one loses power where seeds matter
    little.

    With one seed of a recipe its variance by seeds cannot be estimated: the interval then holds
    for these models on other patients.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> patients = rng.normal(0, 0.01, 1001)  # what all models share, resample by resample
    >>> first = 0.80 + np.array([[0.03], [0.00], [-0.03]]) + patients
    >>> found = recipe_difference(first, first - 0.02, patients=200)
    >>> round(found.value, 3), found.low < 0 < found.high, round(found.freedom, 1)
    (0.02, True, 4.0)
    """
    finite: NDArray[np.bool_] = np.isfinite(np.concatenate([first, second])).all(axis=0)
    if not finite[0] or finite[1:].mean() < DEFINED or finite.sum() < 3:
        return None
    first, second = first[:, finite], second[:, finite]
    differences = first.mean(axis=0) - second.mean(axis=0)
    by_patients = float(differences[1:].var(ddof=1))
    pairs = ((first, spread), (second, None))
    own = [_own_parts(values, spread) for values, spread in pairs if len(values) > 1]
    shared = max(by_patients - sum(luck for _, luck, _ in own), 0.0)
    variance = by_patients + sum(max(seeds - luck, 0.0) for seeds, luck, _ in own)
    error = max(float(np.sqrt(variance)), SMALLEST)
    of_patients = min(patients, first.shape[1] - 1) - 1
    moved = LUCK_SHARE * sum(luck for _, luck, _ in own)
    by_seeds = [(max(seeds, luck) - LUCK_SHARE * luck, freedom) for seeds, luck, freedom in own]
    parts = [(shared + moved, max(of_patients, 1)), *by_seeds]
    freedom = _satterthwaite(parts)
    value = float(differences[0])
    reach = -float(stdtrit(freedom, (1 - level) / 2)) * error
    p = float(2 * stdtr(freedom, -abs(value) / error))
    return RecipeDifference(value, value - reach, value + reach, p, error, freedom)


def recipe_value(values: Floats, patients: int, *, level: float = 0.95) -> RecipeDifference | None:
    """Return the value of one recipe, with an interval over patients and seeds.

    It is the difference of the recipe from 0; see `recipe_difference`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = 0.8 + np.array([[0.03], [0.00], [-0.03]]) + rng.normal(0, 0.01, (1, 1001))
    >>> found = recipe_value(values, patients=200)
    >>> found.high - found.low > 4 * 0.01  # seeds add to what patients do
    True
    """
    nothing = np.zeros((1, values.shape[1]))
    return recipe_difference(values, nothing, patients, level=level)


def _own_parts(values: Floats, spread: SeedSpread | None) -> tuple[float, float, int]:
    """Return a recipe's variance by seeds, the part that is luck with patients, and its freedom.

    Both variances are of the mean over seeds.
    """
    seeds = len(values)
    apart = values - values.mean(axis=0)
    luck = apart[:, 1:].var(axis=1, ddof=1).sum() / (seeds - 1)
    own_spread = spread or SeedSpread(float(values[:, 0].var(ddof=1)), seeds - 1)
    return own_spread.variance / seeds, float(luck) / seeds, own_spread.freedom


def _satterthwaite(parts: Sequence[tuple[float, int]]) -> float:
    """Return the degrees of freedom of a sum of variances, each with its own."""
    total = sum(variance for variance, _ in parts)
    weight = sum(variance**2 / freedom for variance, freedom in parts)
    return total**2 / weight if weight > 0 else float(max(freedom for _, freedom in parts))
