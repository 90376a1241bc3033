"""Fronts and the rules that pick from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evenhand.errors import EvenhandError
from evenhand.metrics import costs, find_rule, find_target, front, rank_points

AUC, WORST, GAP = (find_target(name) for name in ("auc", "auc_worst", "auc_gap"))
# overall AUC and worst AUC: two extremes, one between them, and one that the second beats
VALUES = np.array([[0.90, 0.60], [0.88, 0.78], [0.80, 0.80], [0.87, 0.70]])

# No metric differs by less than what 16 bits tell apart.
costs_of_one = st.floats(0, 3, width=16)
points = arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=costs_of_one)


def best(rule, values=VALUES, objectives=(AUC, WORST)):
    return rank_points(costs(values, objectives), find_rule(rule, objectives))[0]


def test_by_hand():
    assert front(costs(VALUES, (AUC, WORST))).tolist() == [True, True, True, False]
    assert best("ideal") == best("minimax") == best(None) == 1
    assert best("budget=0") == 0
    assert best("budget=2") == 1
    assert best("budget=10") == 2


def test_ideal_and_minimax_can_differ():
    cost = np.array([[0, 10], [10, 0], [5.5, 5.5], [2, 7]]) / 10
    values = np.stack([1 - cost[:, 0], cost[:, 1]], axis=1)  # the second is minimised
    assert best("ideal", values, (AUC, GAP)) == 3
    assert best("minimax", values, (AUC, GAP)) == 2


@given(points)
def test_a_point_is_on_the_front_exactly_when_none_beats_it(cost):
    on_front = front(cost)
    for item, on in zip(cost, on_front, strict=True):
        beaten = any((other <= item).all() and (other < item).any() for other in cost)
        assert on == (not beaten)


@given(points, st.sampled_from(["ideal", "minimax"]))
def test_all_are_ranked_once_and_no_point_before_one_that_beats_it(cost, rule):
    objectives = (GAP, GAP)
    order = rank_points(cost, find_rule(rule, objectives))
    assert sorted(order) == list(range(len(cost)))
    place = np.argsort(order)
    for item, other in np.ndindex(len(cost), len(cost)):
        if (cost[item] <= cost[other]).all() and (cost[item] < cost[other]).any():
            assert place[item] < place[other]


def test_one_objective_is_ranked_by_its_value_and_undefined_ones_are_left_out():
    cost = costs(np.array([0.7, np.nan, 0.9, 0.8, 0.9]), (WORST,))
    assert rank_points(cost, find_rule(None, (WORST,))) == [2, 4, 3, 0]


@pytest.mark.parametrize(
    ("rule", "objectives", "message"),
    [
        ("ideal", (WORST,), "there is one target .auc_worst.. Give a second --target"),
        ("best", (AUC, WORST), "--pick best is no rule; the rules are: ideal, minimax, or budget="),
        ("ideal=1", (AUC, WORST), "--pick ideal=1 is no rule"),
        ("budget", (AUC, WORST), "the largest allowed loss of performance"),
        ("budget=-1", (AUC, WORST), "the largest allowed loss of performance"),
        ("budget=nan", (AUC, WORST), "the largest allowed loss of performance"),
        ("budget=.1", (GAP, WORST), "needs one target over everybody"),
        ("budget=.1", (AUC, WORST, GAP), "needs one target over everybody"),
    ],
)
def test_rules_that_cannot_be(rule, objectives, message):
    with pytest.raises(EvenhandError, match=message):
        find_rule(rule, objectives)
