from __future__ import annotations

import numpy as np
import pytest

from evenhand.errors import EvenhandError
from evenhand.metrics import Plan, as_scored, decision_curve, groups_of, measure


def cohort(n=400):
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 0.3).astype(int)
    rows = as_scored(labels, np.round(rng.beta(1 + 2 * labels, 3), 2), patients=np.arange(n) // 2)
    return rows, {"x": groups_of(rng.choice(["a", "b"], size=n))}


def test_each_point_is_the_metric_at_that_threshold():
    rows, groups = cohort()
    curve = decision_curve(rows, groups, [0.1, 0.25], rng=np.random.default_rng(1))
    plan = Plan(("net_benefit_at[0.1]", "net_benefit_at[0.25]"), ())
    table = measure(rows, groups, plan, rng=np.random.default_rng(1))
    assert len(curve) == len(table) == 6
    for column, of_table in (("net_benefit", "value"), ("low", "low"), ("high", "high")):
        assert curve[column].tolist() == pytest.approx(table[of_table].tolist(), rel=1e-12)
    assert curve["group"].tolist() == ["*", "*", "a", "a", "b", "b"]


def test_treating_all_is_flagging_everybody():
    rows, groups = cohort()
    sure = as_scored(rows.labels, np.ones(len(rows)), patients=rows.patients)
    curve = decision_curve(sure, groups, [0.05, 0.2, 0.5], rng=np.random.default_rng(0))
    assert curve["net_benefit"].to_numpy() == pytest.approx(curve["treat_all"].to_numpy())


def test_more_classes_and_strange_thresholds():
    rows, _ = cohort()
    with pytest.raises(EvenhandError, match="for two classes; there are 3"):
        decision_curve(as_scored([0, 1], np.eye(3)[:2]), {}, rng=np.random.default_rng(0))
    with pytest.raises(EvenhandError, match="write a number between 0 and 1"):
        decision_curve(rows, {}, [1.0], rng=np.random.default_rng(0))


def test_thresholds_may_be_an_array():
    rows, groups = cohort()
    curves = [
        decision_curve(rows, groups, thresholds, rng=np.random.default_rng(1))
        for thresholds in ([0.1, 0.25], np.array([0.1, 0.25]))
    ]
    assert curves[0].equals(curves[1])
