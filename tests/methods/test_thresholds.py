from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from evenhand.errors import EvenhandError
from evenhand.methods.afterwards.thresholds import (
    _best_benefit,
    choose_thresholds,
    halfway_down,
    positives_needed,
)

SCORES = st.lists(st.integers(0, 20), min_size=1, max_size=30)


@given(positive=SCORES, negative=SCORES, value=st.sampled_from([0.5, 0.8, 0.9]))
def test_equal_sensitivity_is_what_brute_force_finds(positive, negative, value):
    scores = np.array([*positive, *negative]) / 20
    labels = np.r_[np.ones(len(positive), int), np.zeros(len(negative), int)]
    chosen = choose_thresholds(scores, labels, ["a"] * len(labels), value=value).groups["a"]
    fits = [t for t in scores if (scores[labels == 1] >= t).mean() >= value - 1e-9]
    assert chosen.threshold == max(fits)


@given(positive=SCORES, negative=SCORES, value=st.sampled_from([0.1, 0.3, 0.5]))
def test_net_benefit_is_what_brute_force_finds(positive, negative, value):
    scores = np.array([*positive, *negative]) / 20
    labels = np.r_[np.ones(len(positive), int), np.zeros(len(negative), int)]

    def benefit(threshold: float) -> float:
        flagged = scores >= threshold
        odds = value / (1 - value)
        return float((flagged & (labels == 1)).sum() - odds * (flagged & (labels == 0)).sum())

    chosen = choose_thresholds(
        scores, labels, ["a"] * len(labels), aim="net-benefit", value=value
    ).groups["a"]
    best = max(0.0, *(benefit(t) for t in scores))
    assert benefit(chosen.threshold) == pytest.approx(best)


def test_the_bound_is_clopper_and_pearsons():
    scores = np.linspace(0.01, 0.99, 200)
    chosen = choose_thresholds(
        np.r_[scores, 0.5], [1] * 200 + [0], ["a"] * 201, aim="minimum-sensitivity", value=0.9
    ).groups["a"]
    hits = int((scores >= chosen.threshold).sum())
    exact = binomtest(hits, 200, alternative="greater").proportion_ci(0.95, method="exact")
    assert chosen.bound == pytest.approx(exact.low)
    fewer = binomtest(hits - 1, 200, alternative="greater").proportion_ci(0.95, method="exact")
    assert fewer.low < 0.9 <= exact.low


def test_a_patient_is_found_by_any_of_the_positive_rows():
    scores = [0.9, 0.1, 0.8, 0.2, 0.5]
    chosen = choose_thresholds(
        scores, [1, 1, 1, 1, 0], ["a"] * 5, patients=[1, 1, 2, 2, 3], value=0.99
    ).groups["a"]
    assert (chosen.threshold, chosen.positives) == (0.8, 2)


def test_too_few_positives_promise_nothing_and_say_how_many_it_takes():
    scores, labels = [0.9, 0.7, 0.2, 0.1], [1, 1, 0, 0]
    chosen = choose_thresholds(scores, labels, ["a"] * 4, aim="minimum-sensitivity", value=0.9)
    (group,) = chosen.groups.values()
    assert chosen.broken == ("a",)
    assert (group.promised, group.needed, group.threshold) == (False, 29, 0.7)
    assert positives_needed(0.9, 0.05) == 29
    assert 0.9**29 <= 0.05 < 0.9**28


def test_the_promise_holds_in_every_group_at_once():
    """Of 2,000 redraws of the patients, the sensitivity falls below the aim in at most 5 %."""
    rng = np.random.default_rng(0)
    broken, redraws = 0, 2000
    for _ in range(redraws):
        group = np.repeat(["a", "b", "c"], [60, 80, 120])
        shift = np.repeat([0.0, 0.5, 1.0], [60, 80, 120])
        scores = 1 / (1 + np.exp(-rng.normal(shift, 1)))
        labels, names = np.append(np.ones(260, int), 0), np.append(group, "a")
        chosen = choose_thresholds(
            np.r_[scores, 0.5], labels, names, aim="minimum-sensitivity", value=0.8
        )
        for level, mean in (("a", 0.0), ("b", 0.5), ("c", 1.0)):
            cut = math.log(chosen.groups[level].threshold / (1 - chosen.groups[level].threshold))
            true = 0.5 * math.erfc((cut - mean) / math.sqrt(2))
            if true < 0.8:
                broken += 1
                break
    assert broken / redraws <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / redraws)
    assert broken > 0  # the bound is not so cautious that nothing is left of it


def test_a_group_without_positives_is_refused_by_name():
    with pytest.raises(EvenhandError, match="group 'b' has 1 row and no positive one"):
        choose_thresholds([0.1, 0.9, 0.3], [0, 1, 0], ["a", "a", "b"])


def test_unknown_rows_take_the_pooled_threshold():
    scores, labels = np.linspace(0, 1, 20), np.tile([0, 1], 10)
    groups = np.array(["a", "a", "b", "b"] * 4 + ["a", "b"] + ["unknown"] * 2)
    chosen = choose_thresholds(scores, labels, groups)
    assert "unknown" not in chosen.groups
    assert chosen.of_rows(["unknown", "nobody"]).tolist() == [chosen.pooled] * 2


@pytest.mark.parametrize(
    ("scores", "labels", "groups", "text"),
    [
        ([0.1, 2.0], [0, 1], "ab", "the score in row 1 is 2.0"),
        ([0.1, np.nan], [0, 1], "ab", "the score in row 1 is nan"),
        ([0.1, 0.2], [0, 2], "ab", "labels must be integers from 0 to 1"),
        ([0.1, 0.2], [0.0, 0.5], "ab", "labels must be integers"),
        ([0.1, 0.2], [1, 1], "ab", "all 2 rows have the label 1"),
        ([0.1, 0.2], [0, 1], "abc", "2 labels and groups of shape"),
        ([[0.1], [0.2]], [0, 1], "ab", "scores of shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(scores, labels, groups, text):
    with pytest.raises(EvenhandError, match=text):
        choose_thresholds(scores, labels, list(groups))


def test_between_neighbouring_numbers_the_threshold_stays():
    low = 0.5
    high = float(np.nextafter(low, 1))
    assert halfway_down(high, np.array([low, high])) == high


def test_where_flagging_is_worth_nothing_no_row_is_flagged():
    """One false for each true flag at even odds: a benefit of 0, which flagging nobody has, too."""
    chosen = _best_benefit(np.array([0.9, 0.8]), np.array([0, 1]), 0.5)
    assert chosen.threshold > 0.9
