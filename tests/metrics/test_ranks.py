"""Ranks on several data sets against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, norm

from evenhand.errors import EvenhandError
from evenhand.metrics.ranks import MIN_DATA_SETS, rank_recipes


def table(sets: int, gain: float, seed: int = 0) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.7, 0.9, sets)
    shifts = {"erm": 0.0, "one": gain, "two": 0.0}
    return {name: (base + add + rng.normal(0, 0.01, sets)).tolist() for name, add in shifts.items()}


def test_friedman_is_scipys_and_the_others_are_holms_by_hand():
    values = table(9, 0.02)
    test = rank_recipes(values, "erm", higher_is_better=True)
    assert test.p == pytest.approx(friedmanchisquare(*values.values()).pvalue)
    error = np.sqrt(3 * 4 / (6 * 9))
    alone = {
        name: 2 * norm.sf(abs(test.ranks[name] - test.ranks["erm"]) / error)
        for name in ("one", "two")
    }
    low, high = sorted(alone, key=alone.__getitem__)
    assert test.p_adjusted[low] == pytest.approx(min(2 * alone[low], 1))
    assert test.p_adjusted[high] == pytest.approx(max(2 * alone[low], alone[high]))


def test_ranks_turn_round_where_a_small_number_is_better():
    values = table(7, 0.1)
    up = rank_recipes(values, "erm", higher_is_better=True)
    down = rank_recipes(values, "erm", higher_is_better=False)
    assert up.ranks["one"] == 1
    assert down.ranks["one"] == 3
    assert sum(up.ranks.values()) == pytest.approx(6)


def test_below_six_data_sets_ranks_are_not_tested():
    test = rank_recipes(table(MIN_DATA_SETS - 1, 0.1), "erm", higher_is_better=True)
    assert test.p is None
    assert test.p_adjusted == {}


def test_recipes_that_are_alike_are_seldom_told_apart():
    smallest = [
        min(rank_recipes(table(8, 0.0, seed), "erm", higher_is_better=True).p_adjusted.values())
        for seed in range(200)
    ]
    assert sum(p <= 0.05 for p in smallest) <= 18


def test_an_undefined_number_is_refused():
    with pytest.raises(EvenhandError, match="undefined"):
        rank_recipes({"erm": [0.5, np.nan], "one": [0.1, 0.2]}, "erm", higher_is_better=True)


def test_ranks_are_tested_from_six_data_sets_on():
    values = {"erm": [0.7, 0.71, 0.72, 0.7, 0.7, 0.7], "mine": [0.8] * 6, "worse": [0.6] * 6}
    assert rank_recipes(values, "erm", higher_is_better=True).p_adjusted.keys() == {"mine", "worse"}
    fewer = {name: numbers[:5] for name, numbers in values.items()}
    assert rank_recipes(fewer, "erm", higher_is_better=True).p_adjusted == {}
