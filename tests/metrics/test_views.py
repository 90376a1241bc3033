"""Metrics that look at the samples of other groups, too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from evenhand.metrics import Bootstrap, Plan, as_scored, groups_of, measure

METRICS = ("bpsn_auc", "bnsp_auc", "sensitivity_at_shared_fpr", "auc")


def cohort(seed, n=240):
    rng = np.random.default_rng(seed)
    names = rng.choice(["a", "b", "c", "unknown"], size=n)
    labels = rng.integers(2, size=n)
    scores = np.round(rng.beta(1 + 2 * labels, 2, size=n), 2)
    return as_scored(labels, scores, patients=np.arange(n) // 2), names


def table_of(rows, names, **plan):
    request = Plan(METRICS, ("gap",), bootstrap=plan.pop("bootstrap", None), **plan)
    table = measure(rows, {"x": groups_of(names)}, request, rng=np.random.default_rng(0))
    return table[table["attribute"] == "x"].set_index(["group", "metric"])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_by_scikit_learn_on_the_rows_picked_by_hand(seed):
    rows, names = cohort(seed)
    table = table_of(rows, names)
    compared = names != "unknown"
    for level in "abc":
        own, others = names == level, compared & (names != level)
        positive = rows.labels == 1
        for metric, counts in (
            ("bpsn_auc", (own & ~positive) | (others & positive)),
            ("bnsp_auc", (own & positive) | (others & ~positive)),
        ):
            expected = roc_auc_score(rows.labels[counts], rows.scores[counts])
            assert table.loc[(level, metric), "value"] == pytest.approx(expected, rel=1e-12)
        healthy = rows.scores[compared & ~positive]
        cuts = np.append(np.unique(rows.scores), np.inf)
        allowed = cuts[[(healthy >= cut).mean() <= 0.1 + 1e-12 for cut in cuts]]
        result = (rows.scores[own & positive] >= allowed.min()).mean()
        assert table.loc[(level, "sensitivity_at_shared_fpr"), "value"] == pytest.approx(result)


def test_the_shared_threshold_is_one_for_all_groups():
    """A group whose scores are all lower is found less at the common threshold, not at its own."""
    rng = np.random.default_rng(0)
    names = np.repeat(["high", "low"], 1000)
    labels = rng.integers(2, size=2000)
    scores = 1 / (1 + np.exp(-(3 * labels - 1.5 * (names == "low") + rng.normal(size=2000))))
    table = measure(
        as_scored(labels, scores),
        {"x": groups_of(names)},
        Plan(("sensitivity_at_shared_fpr", "sensitivity_at_specificity"), ("gap",), bootstrap=None),
        rng=rng,
    ).set_index(["attribute", "metric"])["value"]
    assert table["x", "sensitivity_at_shared_fpr_gap"] > 0.2
    assert table["x", "sensitivity_at_specificity_gap"] < 0.1


def test_counts_are_of_the_group_and_intervals_hold_its_value():
    rows, names = cohort(0)
    table = table_of(rows, names, bootstrap=Bootstrap(100))
    for level in "abc":
        row = table.loc[(level, "bpsn_auc")]
        assert row["n"] == (names == level).sum()
        assert row["low"] < row["value"] < row["high"]
    assert table.loc[("*", "bnsp_auc_gap"), "high"] > 0


def test_everybody_has_no_others():
    rows, _ = cohort(0)
    plan = Plan(METRICS, (), bootstrap=None)
    table = measure(rows, {}, plan, rng=np.random.default_rng(0)).set_index("metric")
    assert "no positives among" in table.loc["bpsn_auc", "undefined"]
    assert "no negatives among" in table.loc["bnsp_auc", "undefined"]
    assert table.loc["sensitivity_at_shared_fpr", "value"] > 0


def test_a_level_left_out_is_no_background():
    rows, names = cohort(1)
    both = table_of(rows, names, excluded={"x": {"c"}})
    included = names != "c"
    few = as_scored(rows.labels[included], rows.scores[included], patients=rows.patients[included])
    alone = table_of(few, names[included])
    for level in "ab":
        for metric in METRICS:
            assert both.loc[(level, metric), "value"] == alone.loc[(level, metric), "value"]
