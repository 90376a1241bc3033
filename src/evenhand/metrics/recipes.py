"""Training recipes against a reference recipe: paired by patient and seed, corrected together.

A recipe has several models that differ in their seed. All models score the same samples. Models
with the same seed share their starting weights and the order of samples, so recipes are compared
seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from evenhand.metrics.attribute_numbers import compute_numbers
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.fairness import FAIRNESS
from evenhand.metrics.groups import Excluded, Groups
from evenhand.metrics.numbers import ResampledNumber, divide_samples, undivided_samples
from evenhand.metrics.permutation import step_down
from evenhand.metrics.power import POWER
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.scored import Scored
from evenhand.metrics.seeds import RecipeDifference, SeedSpread, recipe_difference

OVERALL = ("auc", "brier", "squared_calibration_error")
"""The metrics of everybody that recipes are compared by."""

ACROSS = ("worst", "gap", "equalized_odds_difference")
"""The numbers across groups that recipes are compared by: worst AUC, gap in AUC, and one metric."""

RATES = ("sensitivity", "specificity")
"""The metrics of each group that recipes are compared by if they differ only in decisions."""

SAME = 1e-10
"""Two numbers count as equal up to this difference."""

RecipeValues = Mapping[Key, Floats]
"""The numbers of a recipe, ``(S, 1 + B)`` each: a row for each seed; the data, then B resamples."""


@dataclass(frozen=True)
class Difference:
    """A number of a recipe less the same number of the reference recipe.

    Attributes
    ----------
    recipe, key
        The name of the recipe, and the identity of the number.
    value, low, high
        The mean over seeds, and its interval corrected over the family; None where undefined.
    p, p_adjusted
        The p-value of "no difference", alone and corrected over the family; None where undefined.
    detectable
        The difference that would have been claimed with power .8. None where it is undefined, or
        larger than any possible difference.
    better
        True if the number is shown to be better, False if it is shown to be worse, else None.
    """

    recipe: str
    key: Key
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    better: bool | None = None


@dataclass(frozen=True)
class _Test:
    """One test of the family.

    Attributes
    ----------
    index
        The index of its difference among all differences.
    by_patients
        ``(B,)``, the mean difference in each resample of patients, centred, in standard errors.
    by_seeds
        The share of the variance that comes from seeds.
    error, freedom
        The standard error of the difference, and its degrees of freedom.
    """

    index: int
    by_patients: Floats
    by_seeds: float
    error: float
    freedom: float


def compared_values(
    rows: Scored,
    groups: Mapping[str, Groups],
    resamples: Resamples,
    excluded: Excluded | None = None,
    overall: Sequence[str] = OVERALL,
) -> dict[Key, Floats]:
    """Return the numbers ``(1 + B,)`` of one model that recipes are compared by.

    Parameters
    ----------
    rows
        Samples with scores, decisions and patients.
    groups
        The level of each sample, by attribute.
    resamples
        The resamples of patients; the same for every model.
    excluded
        By attribute: the levels to leave out; ``"unknown"`` always is left out.
    overall
        The metrics to compute for everybody.

    Returns
    -------
    dict
        The metrics of everybody, each group's AUC, the worst AUC, the gap in AUC and the
        equalised-odds difference of each attribute. NaN where a number is undefined.
    """
    numbers = compute_numbers(undivided_samples(rows), overall, (), resamples)
    for name, levels in groups.items():
        compared = levels.compared((excluded or {}).get(name, ()))
        numbers += compute_numbers(
            divide_samples(rows, name, levels, compared), ("auc",), ACROSS, resamples
        )
    return {number.key: _values(number) for number in numbers}


def compared_rates(
    rows: Scored,
    groups: Mapping[str, Groups],
    resamples: Resamples,
    excluded: Excluded | None = None,
) -> dict[Key, Floats]:
    """Return the `RATES` ``(1 + B,)`` of one model in each group, for two classes.

    The parameters are those of `compared_values`.
    """
    numbers: list[ResampledNumber] = []
    for name, levels in groups.items():
        compared = levels.compared((excluded or {}).get(name, ()))
        numbers += compute_numbers(
            divide_samples(rows, name, levels, compared), RATES, (), resamples
        )
    return {number.key: _values(number) for number in numbers}


def compare_recipes(
    values: Mapping[str, RecipeValues],
    reference: str,
    patients: Mapping[Key, int],
    rng: np.random.Generator,
    *,
    recombined: Mapping[str, RecipeValues] | None = None,
    folds: int = 1,
) -> list[Difference]:
    """Compare every recipe with the reference in every number; all differences are one family.

    Parameters
    ----------
    values
        By recipe: its numbers from `compared_values`, a row for each seed. All recipes have the
        same seeds in the same order, and the same resamples. A number that a recipe lacks is not
        compared.
    reference
        The name of the recipe that the other recipes are compared with.
    patients
        For each number, the number of patients behind it; of the rarer class if it needs both.
    rng
        Draws the variation between seeds.
    recombined
        By recipe: each number on the data, ``(R, S)``. Each of R rows assigns the fits of each
        fold to the S seeds in another order, which is the same for all recipes. The variance
        between seeds is then estimated from all rows instead of from S values.
    folds
        The number of folds.

    Returns
    -------
    list
        The differences of the other recipes: recipe by recipe, number by number.

    Notes
    -----
    Each difference has the t test of `evenhand.metrics.seeds.recipe_difference` over patients and
    seeds. The p-values, as normal deviates, are corrected by step-down max-t (Romano & Wolf,
    Econometrica 2005). A draw under "no difference" is the sum of a resample of patients, which all
    differences share, and an independent normal deviate with the variance of the seeds. A number
    that equals that of the reference in every resample is not tested.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> key = Key("*", "*", "auc")
    >>> erm = {key: 0.8 + rng.normal(0, 0.01, (2, 1001))}
    >>> better = {key: erm[key] + 0.05 + rng.normal(0, 0.01, (2, 1001))}
    >>> differences = compare_recipes({"erm": erm, "better": better}, "erm", {key: 200}, rng)
    >>> differences[0].recipe, differences[0].better
    ('better', True)
    """
    others = [name for name in values if name != reference]
    differences: list[Difference] = []
    tests: list[_Test] = []
    for name in others:
        for key, numbers in values[name].items():
            change = numbers - values[reference][key]
            spread = None
            if recombined is not None and len(change) > 1:
                spread = _spread(recombined[name][key] - recombined[reference][key], folds)
            result = _test_alone(change, patients[key], spread)
            differences.append(_uncorrected(name, key, change, result))
            if result is not None:
                tests.append(_family_test(len(differences) - 1, change, result))
    return _corrected(differences, tests, rng)


def is_better(key: Key, change: float) -> bool:
    """Return whether a change of a number, above or below 0, is an improvement."""
    if key.aggregate == "gap":
        return change < 0
    metric = FAIRNESS[key.base] if key.base in FAIRNESS else find_metric(key.base)
    return change < 0 if metric.direction == "lower" else change > 0


def largest_change(key: Key) -> float:
    """Return the largest possible change of a number: 1 for shares and their gaps, else infinity.

    Examples
    --------
    >>> largest_change(Key("sex", "*", "auc", "gap")), largest_change(Key("*", "*", "auprg"))
    (1.0, inf)
    """
    metrics = FAIRNESS[key.base].metrics if key.base in FAIRNESS else (key.base,)
    return 1.0 if all(find_metric(name).share for name in metrics) else math.inf


def levelled_down(
    differences: Sequence[Difference], attribute: str, worst: str | None
) -> tuple[str, ...]:
    """Return the groups of an attribute that a recipe levels down; empty if there is no such group.

    Parameters
    ----------
    differences
        The differences of one recipe.
    attribute
        The attribute.
    worst
        The group that the reference recipe serves worst on validation; None if it is not known.

    Returns
    -------
    tuple
        The groups whose AUC is shown to be lower, if the AUC of the worst group (of any group, if
        the worst is not known) is not shown to be higher.
    """
    groups = [
        difference
        for difference in differences
        if difference.key.attribute == attribute and is_auc_of_group(difference.key)
    ]
    gains = {difference.key.group for difference in groups if difference.better}
    losses = tuple(difference.key.group for difference in groups if difference.better is False)
    return () if (worst in gains if worst else gains) else losses


def is_auc_of_group(key: Key) -> bool:
    """Return whether a number is the AUC of one group."""
    return key.group != EVERYBODY and (key.base, key.aggregate) == ("auc", None)


def stability(values: Mapping[str, RecipeValues], key: Key) -> float:
    """Return the share of resamples in which another recipe is the best than in the data.

    In the data, the best recipe is that with the best mean over seeds. Each resample of patients
    counts once for each seed.
    """
    stacked = np.stack([numbers[key] for numbers in values.values()])  # (recipes, S, 1 + B)
    sign = 1.0 if is_better(key, 1.0) else -1.0
    oriented = np.where(np.isnan(stacked), -np.inf, sign * stacked)
    winner = oriented[:, :, 0].mean(axis=1).argmax()
    return float((oriented[:, :, 1:].argmax(axis=0) != winner).mean())


def _values(number: ResampledNumber) -> Floats:
    """Return the values of a number, NaN where it is undefined."""
    return np.full_like(number.values, np.nan) if number.reason else number.values


def _spread(change: Floats, folds: int) -> SeedSpread:
    """Return the variance between seeds, from differences ``(R, S)`` of recombined fits."""
    seeds = change.shape[1]
    return SeedSpread(float(change.var(axis=1, ddof=1).mean()), folds * (seeds - 1))


def _is_zero(change: Floats) -> bool:
    """Return whether a difference ``(S, 1 + B)`` is 0 wherever it is defined."""
    return float(np.nanmax(np.abs(change), initial=0.0)) <= SAME


def _test_alone(
    change: Floats, patients: int, spread: SeedSpread | None
) -> RecipeDifference | None:
    """Return the test of a difference ``(S, 1 + B)`` alone; None if it is undefined or 0."""
    if _is_zero(change):
        return None
    return recipe_difference(change, np.zeros((1, change.shape[1])), patients, spread=spread)


def _uncorrected(
    recipe: str, key: Key, change: Floats, result: RecipeDifference | None
) -> Difference:
    """Return a difference with its p-value before the correction."""
    value = float(change[:, 0].mean())
    if not np.isfinite(value):
        return Difference(recipe, key)
    if _is_zero(change):
        return Difference(recipe, key, 0.0, 0.0, 0.0, 1.0, 1.0)
    return Difference(recipe, key, value, p=None if result is None else result.p)


def _family_test(index: int, change: Floats, result: RecipeDifference) -> _Test:
    """Return a test with its variation by patients and by seeds."""
    drawn = change[:, 1:].mean(axis=0)
    centred = (drawn - np.nanmean(drawn)) / result.error
    share = min(float(np.nanvar(centred)), 1.0)
    return _Test(index, centred, 1 - share, result.error, result.freedom)


def _corrected(
    differences: list[Difference], tests: Sequence[_Test], rng: np.random.Generator
) -> list[Difference]:
    """Return the differences with corrected p-values and intervals."""
    if not tests:
        return differences
    count = len(tests[0].by_patients)
    draws = np.stack(
        [
            np.abs(test.by_patients + np.sqrt(test.by_seeds) * rng.normal(size=count))
            for test in tests
        ]
    )
    p = np.array([differences[test.index].p for test in tests], dtype=np.float64)
    observed = np.abs(ndtri(np.maximum(p, np.finfo(np.float64).tiny) / 2))
    adjusted = step_down(observed, lambda chosen: draws[chosen], count)
    critical = float(np.nanquantile(adjusted.largest, 1 - CLAIM))
    for test, p_alone, p_family in zip(tests, p, adjusted.p_adjusted, strict=True):
        difference = differences[test.index]
        corrected = max(float(p_alone), float(p_family))
        differences[test.index] = _with_verdict(difference, test, critical, corrected)
    return differences


def _with_verdict(
    difference: Difference, test: _Test, critical: float, p_adjusted: float
) -> Difference:
    """Return a difference with its corrected interval and its verdict."""
    assert difference.value is not None
    margin = float(stdtrit(test.freedom, float(ndtr(critical)))) * test.error
    detectable = margin + float(stdtrit(test.freedom, POWER)) * test.error
    claimed = p_adjusted <= CLAIM and difference.value != 0
    limit = largest_change(difference.key)
    return replace(
        difference,
        low=max(difference.value - margin, -limit),
        high=min(difference.value + margin, limit),
        p_adjusted=p_adjusted,
        detectable=detectable if detectable <= limit else None,
        better=is_better(difference.key, difference.value) if claimed else None,
    )


def worst_served(values: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, str]:
    """Return the level with the lowest mean AUC, by attribute.

    Parameters
    ----------
    values
        By attribute and level: its AUC in several models or folds. NaN is ignored; a level that is
        NaN in all of them is ignored, too.

    Examples
    --------
    >>> nan = float("nan")
    >>> worst_served({("sex", "f"): [nan, 0.1], ("sex", "m"): [0.9, 0.8], ("sex", "x"): [nan]})
    {'sex': 'f'}
    """
    defined = {key: np.asarray(aucs)[~np.isnan(aucs)] for key, aucs in values.items()}
    means = {key: float(aucs.mean()) for key, aucs in defined.items() if aucs.size}
    worst: dict[str, str] = {}
    for attribute, level in sorted(means, key=lambda key: means[key]):
        worst.setdefault(attribute, level)
    return worst


def rarer_patients(rows: Scored, places: NDArray[np.intp] | None = None) -> int:
    """Return the number of patients of the rarest class among some rows, by default all rows."""
    part = rows if places is None else rows.take(places)
    labels = range(len(rows.classes))
    counts = [len(np.unique(part.patients[part.labels == label])) for label in labels]
    return min(counts if rows.binary else filter(None, counts), default=0)
