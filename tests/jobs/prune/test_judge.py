"""What is good enough, what the budget allows, and which step wins."""

from __future__ import annotations

import pytest

from evenhand.jobs.prune.judge import Judge
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import find_target


def judge(target="auc_gap", **changes) -> Judge:
    settings = PruneSettings(run="run", attribute=("age",), **changes)
    return Judge(
        None,
        "age",
        find_target(target),
        settings.rank_by,
        settings.budget,
        settings.budget_metric,
        {},
    )


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
    ("target", "budget", "winner"),
    [
        ("auc_gap", 1.0, 1),  # the first of two equals; the smallest gap is beyond the budget
        ("auc_gap", None, 3),
        ("auc_gap", 0.0, 4),
        ("auc_worst", 1.0, 4),
        ("auc_best", 1.0, 0),
    ],
)
def test_the_best_step_within_the_budget_wins(target, budget, winner):
    steps = [{**step, "auc_best": 0.95 - k / 100} for k, step in enumerate(STEPS)]
    assert judge(target, budget=budget).best_step(steps) == winner
    assert judge(target, budget=budget).best_step(steps[:1]) == 0
