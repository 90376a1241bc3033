from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from evenhand.metrics import (
    Bootstrap,
    Plan,
    as_scored,
    auc_error,
    design_effect,
    detectable_gap,
    groups_of,
    measure,
)


def test_the_detectable_gap_is_found_four_times_in_five():
    error = 0.03
    gap = detectable_gap(error)
    result = 1 - norm.cdf(1.959964, gap / error) + norm.cdf(-1.959964, gap / error)
    assert result == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("positives", "negatives"), [(15, 150), (150, 15)])
def test_error_of_an_auc_foretold(positives, negatives):
    """Exponential scores, for which Hanley and McNeil's formula is exact."""
    rng = np.random.default_rng(0)
    up, down = rng.exponential(4.0, (2000, positives)), rng.exponential(1.0, (2000, negatives))
    labels = np.repeat([1, 0], [positives, negatives])
    scores = np.concatenate([up, down], axis=1)
    result = [roc_auc_score(labels, row) for row in scores]
    assert auc_error(0.8, positives, negatives) == pytest.approx(np.std(result), rel=0.05)


def test_five_samples_of_a_patient_that_are_the_same_say_as_much_as_one():
    assert auc_error(0.8, 200, 300, design_effect(5, 1.0)) == auc_error(0.8, 40, 60)
    assert auc_error(0.8, 200, 300, design_effect(5, 0.0)) == auc_error(0.8, 200, 300)


def test_no_positives_no_error():
    assert np.isnan(auc_error(0.8, 0, 10))


def test_rows_with_the_detectable_difference():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=400)
    rows = as_scored(labels, np.clip(0.3 * labels + 0.7 * rng.random(400), 0, 1))
    groups = {"x": groups_of(np.repeat(["a", "b"], [300, 100]))}
    plan = Plan(("auc",), ("difference", "detectable"), bootstrap=Bootstrap(1000))
    table = measure(rows, groups, plan, rng=rng).set_index("metric")
    row, difference = table.loc["auc_detectable"], table.loc["auc_difference"]
    error = (difference["high"] - difference["low"]) / (2 * 1.96)
    assert row["group"] == "b"
    assert row["value"] == pytest.approx(2.8016 * error, rel=0.1)
    assert np.isnan(row["low"])
    assert "80 % power" in row["note"]
