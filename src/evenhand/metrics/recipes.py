"""Training recipes against one reference: paired by patient and seed, corrected together.

A recipe has several models, which differ in their seed. All score the same samples, and the models
of a seed share starting weights and the order of samples, so differences are taken seed by seed.
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
from evenhand.metrics.power import POWER
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.scored import Scored
from evenhand.metrics.seeds import RecipeDifference, SeedSpread, recipe_difference
from evenhand.metrics.stepdown import step_down

OVERALL = ("auc", "brier", "squared_calibration_error")
"""Metrics of everybody that recipes are compared by."""

ACROSS = ("worst", "gap", "equalized_odds_difference")
"""What they are compared by across the groups of each attribute: of the AUC, or by itself."""

RATES = ("sensitivity", "specificity")
"""What decisions are compared by in each group, where an entry moves decisions alone."""

SAME = 1e-10
"""Two recipes whose numbers differ by no more are the same in that number."""

RecipeValues = Mapping[Key, Floats]
"""Numbers of a recipe, ``(S, 1 + B)`` each: a row for each seed, the data first."""


@dataclass(frozen=True)
class Difference:
    """A number of one recipe less that of the reference.

    Attributes
    ----------
    recipe, key
        Whose number, and which.
    value, low, high
        Mean over seeds, and its interval corrected over the family; None where undefined.
    p, p_adjusted
        Of "no difference", alone and corrected over the family; None where undefined.
    detectable
        How large a difference would have been claimed with power .8; None where it is undefined,
        or no difference that is possible would.
    better
        Whether the number is shown to be better (True), worse (False), or neither (None).
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
    """One test of the family: its place among the differences, and what its draws are made of."""

    place: int
    by_patients: Floats  # (B,), resamples of the mean difference, in its standard errors
    by_seeds: float  # share of the variance that seeds add
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
        The attributes, and the level of each sample.
    resamples
        Of the patients; the same for every model that is compared.
    excluded
        Levels left out, by attribute; ``"unknown"`` always is.
    overall
        Metrics of everybody.

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
    """Return the `RATES` ``(1 + B,)`` of the decisions of one model in each group, for two classes.

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
    level: float = CLAIM,
) -> list[Difference]:
    """Compare every recipe with the reference in every number; all differences are one family.

    Parameters
    ----------
    values
        Of each recipe by name, as `compared_values` gives them, a row for each seed. Every recipe has
        the same seeds in the same order, and the same resamples. A number that a recipe lacks is
        not compared.
    reference
        The name of the recipe that the others are compared with.
    patients
        How many patients each number rests on, of the rarer class where it needs both.
    rng
        Draws what other seeds would add.
    recombined
        Of each recipe by name, each number on the data ``(R, S)``, where each of R rows deals the
        fits of each fold out to the seeds in another order, the same one for every recipe. The
        variance between seeds is then estimated from all of them, and not from S values alone.
    folds
        How many folds there are.
    level
        Chance of any claim where nothing differs.

    Returns
    -------
    list
        A difference for each other recipe and each of its numbers, in their order.

    Notes
    -----
    Each difference has the t test of `evenhand.metrics.seeds.recipe_difference` over patients and
    seeds, of the differences seed by seed. Its p-value, as a normal deviate, is compared step by
    step (Romano & Wolf, Econometrica 2005) with draws in which nothing differs: the resamples of
    patients, which all differences share, and normal deviates of their own for what seeds add.
    A recipe whose number is that of the reference in every resample takes no part.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> key = Key("*", "*", "auc")
    >>> erm = {key: 0.8 + rng.normal(0, 0.01, (2, 1001))}
    >>> better = {key: erm[key] + 0.05 + rng.normal(0, 0.01, (2, 1001))}
    >>> found = compare_recipes({"erm": erm, "better": better}, "erm", {key: 200}, rng)
    >>> found[0].recipe, found[0].better
    ('better', True)
    """
    others = [name for name in values if name != reference]
    differences: list[Difference] = []
    tests: list[_Test] = []
    for name in others:
        for key, own in values[name].items():
            apart = own - values[reference][key]
            spread = None
            if recombined is not None and len(apart) > 1:
                spread = _spread(recombined[name][key] - recombined[reference][key], folds)
            tested = _tested(apart, patients[key], spread)
            differences.append(_alone(name, key, apart, tested))
            if tested is not None:
                tests.append(_test(len(differences) - 1, apart, tested))
    return _corrected(differences, tests, rng, level)


def is_better(key: Key, change: float) -> bool:
    """Whether a change of a number, above or below 0, is one for the better."""
    if key.aggregate == "gap":
        return change < 0
    kind = FAIRNESS[key.base] if key.base in FAIRNESS else find_metric(key.base)
    return change < 0 if kind.direction == "lower" else change > 0


def largest_change(key: Key) -> float:
    """Return how far a number can change: 1 for shares and gaps between shares, else infinity.

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
    """Return the groups that one recipe levels down; none where this is no levelling down.

    Parameters
    ----------
    differences
        Those of one recipe, of the whole family.
    attribute
        Whose groups are looked at.
    worst
        The group that the reference serves worst on validation; None where it is not known.

    Returns
    -------
    tuple
        Groups whose AUC is shown to be lower, where the worst group's is not shown to be higher.
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
    """Return the share of resamples, over all seeds, in which another recipe is the best.

    Each resample has patients drawn anew and one seed of each recipe.
    """
    stacked = np.stack([numbers[key] for numbers in values.values()])  # (recipes, S, 1 + B)
    sign = 1.0 if is_better(key, 1.0) else -1.0
    oriented = np.where(np.isnan(stacked), -np.inf, sign * stacked)
    winner = oriented[:, :, 0].mean(axis=1).argmax()
    return float((oriented[:, :, 1:].argmax(axis=0) != winner).mean())


def _values(number: ResampledNumber) -> Floats:
    return np.full_like(number.values, np.nan) if number.reason else number.values


def _spread(apart: Floats, folds: int) -> SeedSpread:
    """Return the variance between seeds, from differences ``(R, S)`` of recombined fits."""
    seeds = apart.shape[1]
    return SeedSpread(float(apart.var(axis=1, ddof=1).mean()), folds * (seeds - 1))


def _is_same(apart: Floats) -> bool:
    return float(np.nanmax(np.abs(apart), initial=0.0)) <= SAME


def _tested(apart: Floats, patients: int, spread: SeedSpread | None) -> RecipeDifference | None:
    """Return the test of a difference alone; None where it is undefined, or 0 everywhere."""
    if _is_same(apart):
        return None
    return recipe_difference(apart, np.zeros((1, apart.shape[1])), patients, spread=spread)


def _alone(recipe: str, key: Key, apart: Floats, tested: RecipeDifference | None) -> Difference:
    """Return a difference with its own p-value, before any correction."""
    value = float(apart[:, 0].mean())
    if not np.isfinite(value):
        return Difference(recipe, key)
    if _is_same(apart):
        return Difference(recipe, key, 0.0, 0.0, 0.0, 1.0, 1.0)
    return Difference(recipe, key, value, p=None if tested is None else tested.p)


def _test(place: int, apart: Floats, tested: RecipeDifference) -> _Test:
    """Return a test with what its draws are made of."""
    drawn = apart[:, 1:].mean(axis=0)
    centred = (drawn - np.nanmean(drawn)) / tested.error
    share = min(float(np.nanvar(centred)), 1.0)
    return _Test(place, centred, 1 - share, tested.error, tested.freedom)


def _corrected(
    differences: list[Difference], tests: Sequence[_Test], rng: np.random.Generator, level: float
) -> list[Difference]:
    """Put corrected p-values, intervals and what would have shown into the differences."""
    if not tests:
        return differences
    count = len(tests[0].by_patients)
    draws = np.stack(
        [
            np.abs(test.by_patients + np.sqrt(test.by_seeds) * rng.normal(size=count))
            for test in tests
        ]
    )
    p = np.array([differences[test.place].p for test in tests], dtype=np.float64)
    observed = np.abs(ndtri(np.maximum(p, np.finfo(np.float64).tiny) / 2))
    adjusted = step_down(observed, lambda chosen: draws[chosen], count)
    critical = float(np.nanquantile(adjusted.largest, 1 - level))
    for test, alone, together in zip(tests, p, adjusted.p_adjusted, strict=True):
        difference = differences[test.place]
        corrected = max(float(alone), float(together))
        differences[test.place] = _judged(difference, test, critical, corrected, level)
    return differences


def _judged(
    difference: Difference, test: _Test, critical: float, p_adjusted: float, level: float
) -> Difference:
    """Return a difference with its corrected interval and its verdict."""
    assert difference.value is not None
    within = float(stdtrit(test.freedom, float(ndtr(critical))))
    reach = within * test.error
    to_power = float(stdtrit(test.freedom, POWER)) * test.error
    claimed = p_adjusted <= level and difference.value != 0
    limit = largest_change(difference.key)
    return replace(
        difference,
        low=max(difference.value - reach, -limit),
        high=min(difference.value + reach, limit),
        p_adjusted=p_adjusted,
        detectable=reach + to_power if reach + to_power <= limit else None,
        better=is_better(difference.key, difference.value) if claimed else None,
    )


def worst_served(values: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, str]:
    """Return the level of each attribute with the lowest mean.

    Parameters
    ----------
    values
        The AUC of each attribute's level in several models or folds. NaN is left out of the mean,
        and so is a level that is NaN in all of them.

    Examples
    --------
    >>> nan = float("nan")
    >>> worst_served({("sex", "f"): [nan, 0.1], ("sex", "m"): [0.9, 0.8], ("sex", "x"): [nan]})
    {'sex': 'f'}
    """
    defined = {key: np.asarray(several)[~np.isnan(several)] for key, several in values.items()}
    means = {key: float(several.mean()) for key, several in defined.items() if several.size}
    worst: dict[str, str] = {}
    for attribute, level in sorted(means, key=lambda key: means[key]):
        worst.setdefault(attribute, level)
    return worst


def rarer_patients(rows: Scored, places: NDArray[np.intp] | None = None) -> int:
    """Return how many patients of the rarer class some rows have, of all rows by default."""
    part = rows if places is None else rows.take(places)
    labels = range(len(rows.classes))
    counts = [len(np.unique(part.patients[part.labels == label])) for label in labels]
    return min(counts if rows.binary else filter(None, counts), default=0)
