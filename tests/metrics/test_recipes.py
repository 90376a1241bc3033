"""Recipes against a reference: who is shown to be better, by which size, and who is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evenhand.metrics import recipes as recipes_module
from evenhand.metrics.groups import groups_of
from evenhand.metrics.recipes import (
    Difference,
    compare_recipes,
    compared_values,
    is_better,
    levelled_down,
    stability,
)
from evenhand.metrics.resample import Bootstrap, resample
from evenhand.metrics.rows import Key
from evenhand.metrics.scored import as_scored

AUC, GAP = Key("*", "*", "auc"), Key("g", "*", "auc", "gap")
EODD = Key("g", "*", "equalized_odds_difference")
DRAWS = 1000


def recipe(rng, shift=0.0, seeds=3, noise=0.01, patients=None):
    """Values of one recipe: what patients give all recipes, and its own noise and shift."""
    shared = np.zeros(DRAWS + 1) if patients is None else patients
    return {AUC: 0.8 + shift + shared + rng.normal(0, noise, (seeds, DRAWS + 1))}


def test_a_planted_difference_is_shown_and_has_its_sign():
    rng = np.random.default_rng(0)
    result = compare_recipes(
        {"erm": recipe(rng), "up": recipe(rng, 0.1), "down": recipe(rng, -0.1)},
        "erm", {AUC: 300}, rng,
    )  # fmt: skip
    assert [(item.recipe, item.better) for item in result] == [("up", True), ("down", False)]
    assert all(item.low < item.value < item.high for item in result)


def test_the_same_recipe_under_many_names_is_hardly_ever_shown_to_be_better():
    claims = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = {str(k): {} for k in range(6)}
        truth = rng.normal(0, 0.01, 6)  # of each recipe's patients: what resamples vary around
        for place, name in enumerate(values):
            drawn = np.r_[truth[place], truth[place] + rng.normal(0, 0.01, DRAWS)]
            values[name] = {AUC: 0.8 + np.tile(drawn, (2, 1)) + rng.normal(0, 0.005, (2, 1))}
        result = compare_recipes(values, "0", {AUC: 300}, rng)
        claims += any(item.better is not None for item in result)
    assert claims <= 11  # the 99.9 % quantile of a binomial with 5 %


def test_differences_are_paired_by_what_patients_share():
    rng = np.random.default_rng(1)
    patients = rng.normal(0, 0.1, DRAWS + 1)
    values = {name: recipe(rng, shift, noise=0.001, patients=patients)
              for name, shift in (("erm", 0.0), ("up", 0.02))}  # fmt: skip
    (result,) = compare_recipes(values, "erm", {AUC: 300}, rng)
    assert result.better
    assert result.high - result.low < 0.02


def test_a_number_that_a_recipe_leaves_as_it_is_makes_no_claim_and_costs_nothing():
    rng = np.random.default_rng(2)
    erm, up = recipe(rng), recipe(rng, 0.03)
    alone = compare_recipes({"erm": erm, "up": up}, "erm", {AUC: 300}, np.random.default_rng(0))
    both = compare_recipes(
        {"erm": erm, "same": erm, "up": up}, "erm", {AUC: 300}, np.random.default_rng(0)
    )
    assert both[0].p_adjusted == 1.0
    assert both[0].better is None
    assert both[1] == alone[0]


def test_an_undefined_number_has_neither_value_nor_verdict():
    rng = np.random.default_rng(3)
    empty = {AUC: np.full((2, DRAWS + 1), np.nan)}
    (result,) = compare_recipes({"erm": recipe(rng, seeds=2), "x": empty}, "erm", {AUC: 9}, rng)
    assert result == Difference("x", AUC)


def test_recombined_fits_give_the_seeds_more_degrees_of_freedom_and_so_a_narrower_interval():
    rng = np.random.default_rng(4)
    erm, other = recipe(rng, seeds=2), recipe(rng, 0.02, seeds=2)
    apart = rng.normal(0, (other[AUC] - erm[AUC])[:, 0].std(ddof=1), (16, 2))
    dealt = {"erm": {AUC: np.zeros((16, 2))}, "other": {AUC: apart}}
    few = compare_recipes({"erm": erm, "other": other}, "erm", {AUC: 300}, rng)
    many = compare_recipes(
        {"erm": erm, "other": other}, "erm", {AUC: 300}, rng, recombined=dealt, folds=5
    )
    assert many[0].high - many[0].low < few[0].high - few[0].low


@pytest.mark.parametrize(
    ("key", "up"), [(AUC, True), (GAP, False), (EODD, False), (Key("*", "*", "brier"), False)]
)
def test_each_number_knows_which_way_is_better(key, up):
    assert is_better(key, 1.0) is up
    assert is_better(key, -1.0) is not up


def test_levelling_down_needs_a_shown_loss_and_no_shown_gain_of_the_worst_group():
    def claim_about(level, better):
        return Difference("x", Key("g", level, "auc"), better=better)

    assert levelled_down([claim_about("old", None), claim_about("young", False)], "g", "old") == (
        "young",
    )
    assert levelled_down([claim_about("old", True), claim_about("young", False)], "g", "old") == ()
    assert levelled_down([claim_about("old", None), claim_about("young", None)], "g", "old") == ()
    assert (
        levelled_down([claim_about("old", None), claim_about("young", False)], "other", "old") == ()
    )


def test_a_gain_of_a_group_that_is_not_the_worst_excuses_no_loss():
    old, young, middle = (
        Difference("x", Key("g", level, "auc"), better=better)
        for level, better in (("old", None), ("young", False), ("middle", True))
    )
    assert levelled_down([old, young, middle], "g", "old") == ("young",)
    assert levelled_down([old, young, middle], "g", None) == ()  # where the worst is not known
    assert levelled_down([old, young], "g", None) == ("young",)


@pytest.mark.parametrize("freedom", [4, 300])
def test_a_difference_of_the_detectable_size_is_claimed_with_power_8_in_10(freedom):
    """One number: of t-distributed errors, 80 % leave such a difference beyond the reach."""
    rng = np.random.default_rng(8)
    test = recipes_module._Test(0, rng.normal(size=DRAWS), 0.0, 0.02, freedom)
    alone = Difference("x", AUC, 0.05)
    judged = recipes_module._with_verdict(alone, test, critical=1.96, p_adjusted=0.5)
    reach = judged.high - judged.value
    errors = 0.02 * rng.standard_t(freedom, 100_000)
    assert np.mean(judged.detectable + errors > reach) == pytest.approx(0.8, abs=0.01)


def test_stability_is_0_where_one_recipe_is_always_the_best_and_half_where_two_are_equal():
    rng = np.random.default_rng(5)
    sure = {"a": recipe(rng, 0.3), "b": recipe(rng)}
    equal = {"a": recipe(rng), "b": recipe(rng)}
    assert stability(sure, AUC) == 0
    assert 0.4 < stability(equal, AUC) < 0.6


def test_values_are_those_of_scikit_learn():
    from sklearn.metrics import brier_score_loss, roc_auc_score

    rng = np.random.default_rng(6)
    label, level = rng.integers(2, size=200), rng.choice(["a", "b"], 200)
    score = rng.random(200)
    rows = as_scored(label, score)
    values = compared_values(rows, {"g": groups_of(level)}, resample(200, Bootstrap(20), rng))
    assert values[AUC][0] == pytest.approx(roc_auc_score(label, score))
    assert values[Key("*", "*", "brier")][0] == pytest.approx(brier_score_loss(label, score))
    by_level = [roc_auc_score(label[level == item], score[level == item]) for item in "ab"]
    assert values[GAP][0] == pytest.approx(max(by_level) - min(by_level))
    assert values[Key("g", "*", "auc", "worst")][0] == pytest.approx(min(by_level))


def single(deviate, seeds, rng):
    """Compare two recipes whose difference is so many standard errors; return it, and the error.

    With several seeds, half of the variance is between seeds.
    """
    spread = 0.01
    patients = rng.normal(0, spread, DRAWS)
    patients *= spread / patients.std(ddof=1)
    by_seed = np.zeros(seeds)
    if seeds > 1:
        by_seed = rng.normal(size=seeds)
        by_seed = (by_seed - by_seed.mean()) / by_seed.std(ddof=1) * spread * np.sqrt(seeds)
    error = spread * np.sqrt(1.0 if seeds == 1 else 2.0)
    value = deviate * error
    change = value + by_seed[:, None] + np.r_[0.0, patients - patients.mean()]
    erm = np.full((seeds, DRAWS + 1), 0.7)
    values = {"erm": {AUC: erm}, "other": {AUC: erm + change}}
    (difference,) = compare_recipes(values, "erm", {AUC: 10_000}, rng)
    return difference, error


@pytest.mark.parametrize("seeds", [1, 40])
@pytest.mark.parametrize(("deviate", "claimed"), [(1.8, False), (2.12, True)])
def test_one_difference_is_claimed_just_where_its_interval_leaves_out_0(seeds, deviate, claimed):
    difference, _ = single(deviate, seeds, np.random.default_rng(seeds))
    assert (difference.better is True) is claimed
    assert (difference.low > 0) is claimed


def test_what_would_have_shown_is_the_reach_of_the_interval_and_what_power_adds():
    difference, error = single(1.0, 1, np.random.default_rng(1))
    assert difference.detectable == pytest.approx((1.96 + 0.84) * error, rel=0.05)


def test_the_group_served_worst_may_be_undefined_in_a_fold():
    values = {("sex", "m"): [0.9, 0.8], ("sex", "f"): [math.nan, 0.1], ("sex", "x"): [math.nan] * 2}
    assert recipes_module.worst_served(values) == {"sex": "f"}


def test_a_corrected_interval_stays_within_what_is_possible():
    key = Key("sex", "*", "auc", "gap")
    test = recipes_module._Test(0, np.zeros(3), 0.0, 0.9, 10.0)
    judged = recipes_module._with_verdict(
        recipes_module.Difference("dro", key, -0.2), test, 2.0, 0.5
    )
    assert (judged.low, judged.high, judged.detectable) == (-1.0, 1.0, None)
