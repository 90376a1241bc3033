from __future__ import annotations

import numpy as np
import pytest

from evenhand.metrics import (
    FAIRNESS,
    METRICS,
    Plan,
    as_scored,
    groups_of,
    guide_errors,
    guide_representation,
    list_metrics,
    measure,
)
from evenhand.metrics.forms import looped
from evenhand.metrics.registry import metric


@pytest.mark.parametrize(
    ("decision", "share", "name"),
    [
        ("punitive", "small", "false_discovery_rate"),
        ("punitive", "large", "false_positive_rate"),
        ("assistive", "small", "false_omission_rate"),
        ("assistive", "large", "false_negative_rate"),
    ],
)
def test_the_tree_of_errors(decision, share, name):
    assert guide_errors(decision, share).metric == name


@pytest.mark.parametrize(
    "advice",
    [
        *(guide_errors(d, s) for d in ("punitive", "assistive") for s in ("small", "large")),
        *(guide_representation(n) for n in ("equal", "proportional")),
    ],
)
def test_advice_can_be_measured(advice):
    rows = as_scored([0, 1, 0, 1] * 2, [0.9, 0.1, 0.2, 0.8] * 2)
    plan = Plan((advice.metric,), advice.across, bootstrap=None)
    table = measure(
        rows, {"x": groups_of(["a"] * 4 + ["b"] * 4)}, plan, rng=np.random.default_rng()
    )
    assert table["value"].notna().all()


def test_the_list_names_everything():
    table = list_metrics()
    assert {*METRICS, *FAIRNESS, "gap", "difference", "detectable"} <= set(table["name"])
    assert table["name"].is_unique
    assert table["title"].str.endswith(".").all()


def test_a_new_metric_is_one_function_with_one_decorator():
    @metric("higher", ideal=1.0, needs="score", form=looped, source="here", classes="any")
    def median_score(over):
        """Median score."""
        return over(lambda labels, scores, decisions: float(np.median(scores)))

    try:
        rng = np.random.default_rng(0)
        rows = as_scored([0, 1] * 20, rng.random(40), patients=np.repeat(np.arange(20), 2))
        seen = []
        plan, tell = Plan(("median_score",)), lambda done, _: seen.append(done)
        table = measure(rows, {}, plan, rng=rng, progress=tell)
        assert table["value"][0] == np.median(rows.scores)
        assert table["low"][0] < table["value"][0] < table["high"][0]
        assert len(seen) > 50  # such a metric is slow: somebody waits for the bar
    finally:
        METRICS.remove("median_score")
