"""The difference of two training recipes that have several models each.

The value of a recipe is the mean over its models, which differ only in their seed. The variance of
the difference has two parts: other patients would change it, and other seeds would change it. Both
recipes are scored on the same patients (paired); their seeds are independent (unpaired).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from evenhand.metrics.registry import Floats

LEVEL = 0.95
"""The confidence level of intervals."""
DEFINED = 0.95
"""Share of the resamples that must be defined for an interval."""

LUCK_SHARE = 0.25
"""Share of the variance ``i`` that gets the patients' degrees of freedom (`recipe_difference`)."""

SMALLEST = 1e-12
"""Least standard error, for a difference that is the same in every resample and for every seed."""


@dataclass(frozen=True)
class RecipeDifference:
    """The value of one recipe less that of another.

    Attributes
    ----------
    value
        The mean over the seeds of the first recipe less that of the second, on the data.
    low, high
        The ends of the interval.
    p
        The two-sided p-value of "no difference".
    error
        The standard error over patients and, for recipes with several seeds, over seeds.
    freedom
        Satterthwaite's degrees of freedom of the standard error.
    """

    value: float
    low: float
    high: float
    p: float
    error: float
    freedom: float


@dataclass(frozen=True)
class SeedSpread:
    """The variance between the seeds of a recipe.

    Attributes
    ----------
    variance
        The variance of the value of one seed, on the data.
    freedom
        The degrees of freedom of the variance.
    """

    variance: float
    freedom: int


def recipe_difference(
    first: Floats,
    second: Floats,
    patients: int,
    *,
    spread: SeedSpread | None = None,
) -> RecipeDifference | None:
    """Return the difference of two recipes, with a t interval over patients and seeds.

    Parameters
    ----------
    first, second
        The values ``(S, 1 + B)`` of each recipe: a row for each of S seeds; the data, then B
        resamples of patients, which are the same for all rows. S may differ between recipes.
    patients
        The number of patients behind the value; of the rarer class if it needs both. The variance
        over patients has one degree of freedom less.
    spread
        The variance between seeds of the first recipe, if it is estimated from more than its S
        values on the data.

    Returns
    -------
    RecipeDifference or None
        None if a value is undefined on the data, or in more than one resample in 20.

    Notes
    -----
    The variance is ``v + Σ max(s² − i, 0) / S``, a sum over both recipes, with

    - ``v``: the bootstrap variance of the difference of means;
    - ``s²``: the variance between the seeds of a recipe, on the data;
    - ``i``: the part of ``s²`` that other patients would change: the bootstrap variance of the
      distance of a seed's value from the mean of its recipe. As ``v`` already contains
      ``Σ i / S``, it is subtracted.

    Degrees of freedom are Satterthwaite's (Biometrics Bulletin 1946): S − 1 for the part
    ``(max(s², i) − i / 4) / S`` of each recipe, and those of the patients for the remaining
    variance. A quarter of ``i`` gets the patients' degrees of freedom, as ``i`` is estimated better
    than ``s²``: with a larger share the test rejects too often in small samples; with a smaller
    share it loses power where seeds matter little.

    The variance between seeds of a recipe with one seed cannot be estimated. The interval then
    holds for this model on other patients, not for the recipe.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> patients = rng.normal(0, 0.01, 1001)  # the variation that all models share
    >>> first = 0.80 + np.array([[0.03], [0.00], [-0.03]]) + patients
    >>> result = recipe_difference(first, first - 0.02, patients=200)
    >>> round(result.value, 3), result.low < 0 < result.high, round(result.freedom, 1)
    (0.02, True, 4.0)
    """
    finite: NDArray[np.bool_] = np.isfinite(np.concatenate([first, second])).all(axis=0)
    if not finite[0] or finite[1:].mean() < DEFINED or finite.sum() < 3:
        return None
    first, second = first[:, finite], second[:, finite]
    differences = first.mean(axis=0) - second.mean(axis=0)
    by_patients = float(differences[1:].var(ddof=1))
    pairs = ((first, spread), (second, None))
    recipes = [_seed_variance(values, spread) for values, spread in pairs if len(values) > 1]
    total_luck = sum(luck for _, luck, _ in recipes)
    variance = by_patients + sum(max(seeds - luck, 0.0) for seeds, luck, _ in recipes)
    error = max(float(np.sqrt(variance)), SMALLEST)
    patient_freedom = max(min(patients, first.shape[1] - 1) - 1, 1)
    patient_part = max(by_patients - total_luck, 0.0) + LUCK_SHARE * total_luck
    seed_parts = [
        (max(seeds, luck) - LUCK_SHARE * luck, freedom) for seeds, luck, freedom in recipes
    ]
    freedom = _satterthwaite([(patient_part, patient_freedom), *seed_parts])
    value = float(differences[0])
    margin = -float(stdtrit(freedom, (1 - LEVEL) / 2)) * error
    p = float(2 * stdtr(freedom, -abs(value) / error))
    return RecipeDifference(value, value - margin, value + margin, p, error, freedom)


def recipe_value(values: Floats, patients: int) -> RecipeDifference | None:
    """Return the value of one recipe, with a t interval over patients and seeds.

    The parameters and the method are those of `recipe_difference`, with 0 as the second recipe.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = 0.8 + np.array([[0.03], [0.00], [-0.03]]) + rng.normal(0, 0.01, (1, 1001))
    >>> result = recipe_value(values, patients=200)
    >>> result.high - result.low > 4 * 0.01  # wider than from patients alone
    True
    """
    zero = np.zeros((1, values.shape[1]))
    return recipe_difference(values, zero, patients)


def _seed_variance(values: Floats, spread: SeedSpread | None) -> tuple[float, float, int]:
    """Return ``s² / S``, ``i / S`` (see `recipe_difference`) and the degrees of freedom of s²."""
    seeds = len(values)
    centred = values - values.mean(axis=0)
    luck = centred[:, 1:].var(axis=1, ddof=1).sum() / (seeds - 1)
    spread = spread or SeedSpread(float(values[:, 0].var(ddof=1)), seeds - 1)
    return spread.variance / seeds, float(luck) / seeds, spread.freedom


def _satterthwaite(parts: Sequence[tuple[float, int]]) -> float:
    """Return the degrees of freedom of a sum of variances, given those of each variance."""
    total = sum(variance for variance, _ in parts)
    weight = sum(variance**2 / freedom for variance, freedom in parts)
    return total**2 / weight if weight > 0 else float(max(freedom for _, freedom in parts))
