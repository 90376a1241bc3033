"""What is good enough, what the budget allows, and which step wins."""

from __future__ import annotations

import pytest

from evenhand.errors import EvenhandError
from evenhand.jobs.prune.judge import Judge, find_criterion, parse_target
from evenhand.jobs.prune.settings import PruneSettings


def judge(objective="auc_gap", target=None, **changes) -> Judge:
    settings = PruneSettings(run="run", attribute=("age",), **changes)
    return Judge(None, "age", find_criterion(objective), target, settings, {})


@pytest.mark.parametrize(
    ("objective", "lower"),
    [
        ("auc_gap", True),
        ("auc_worst", False),
        ("auc_best", False),
        ("auc_min_ratio", False),
        ("log_loss_worst", True),
        ("log_loss_min_ratio", False),
        ("eopp1_sum", True),
        ("equalized_odds_difference", True),
        ("demographic_parity_ratio", False),
    ],
)
def test_which_direction_is_better_and_what_meets_a_target(objective, lower):
    criterion = find_criterion(objective)
    assert criterion.beats(0.1, 0.2) is lower
    assert criterion.beats(0.2, 0.1) is not lower
    assert not criterion.beats(0.1, 0.1)
    assert criterion.meets(0.1, 0.1)
    assert criterion.meets(0.1, 0.2) is lower
    assert criterion.meets(0.2, 0.1) is not lower
    assert not criterion.meets(0.1, None)


@pytest.mark.parametrize("name", ["calibration_slope_gap", "prevalence_gap", "auc"])
def test_a_number_without_a_direction_is_no_criterion(name):
    with pytest.raises(EvenhandError, match=f"no number across groups '{name}'"):
        find_criterion(name)


def test_a_target_is_read():
    assert parse_target("auc_gap=0.02") == ("auc_gap", 0.02)


@pytest.mark.parametrize(
    ("metric", "within", "beyond", "gained"),
    [("auc", 0.88, 0.87, 0.95), ("log_loss", 0.92, 0.93, 0.5)],
)
def test_the_budget_is_in_points_of_a_loss(metric, within, beyond, gained):
    two = judge(budget=2.0, budget_metric=metric)
    before = {metric: 0.9}
    assert two.within_budget({metric: within}, before)
    assert not two.within_budget({metric: beyond}, before)
    assert two.within_budget({metric: gained}, before)
    assert judge(budget=None, budget_metric=metric).within_budget({metric: beyond}, before)
    assert not judge(budget=0.0, budget_metric=metric).within_budget({metric: within}, before)


STEPS = [
    {"auc": 0.90, "auc_gap": 0.10, "auc_worst": 0.80},
    {"auc": 0.89, "auc_gap": 0.04, "auc_worst": 0.85},
    {"auc": 0.89, "auc_gap": 0.04, "auc_worst": 0.85},
    {"auc": 0.80, "auc_gap": 0.01, "auc_worst": 0.99},
    {"auc": 0.91, "auc_gap": 0.05, "auc_worst": 0.86},
]


@pytest.mark.parametrize(
    ("objective", "budget", "winner"),
    [
        ("auc_gap", 1.0, 1),  # the first of two equals; the smallest gap is beyond the budget
        ("auc_gap", None, 3),
        ("auc_gap", 0.0, 4),
        ("auc_worst", 1.0, 4),
        ("auc_best", 1.0, 0),
    ],
)
def test_the_best_step_within_the_budget_wins(objective, budget, winner):
    steps = [{**step, "auc_best": 0.95 - k / 100} for k, step in enumerate(STEPS)]
    assert judge(objective, budget=budget).best(steps) == winner
    assert judge(objective, budget=budget).best(steps[:1]) == 0
