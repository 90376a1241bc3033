"""Comparisons across groups: published vectors, fairlearn, and by hand."""

from __future__ import annotations

import fairlearn.metrics as fl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from evenhand.metrics import (
    CONTRASTS,
    FAIRNESS,
    SUMMARIES,
    Bootstrap,
    Plan,
    as_scored,
    groups_of,
    measure,
)

# Order of the counts: TP, FP, TN, FN of the privileged, then of the unprivileged group.
VECTORS = {
    "MIMIC language": (
        (744, 1687, 9028, 431),
        (170, 388, 1194, 77),
        {
            "selection_rate_ratio": 1.492167,
            "error_rate_ratio": 1.427234,
            "false_discovery_rate_ratio": 1.001999,
            "false_negative_rate_ratio": 0.849874,
            "false_omission_rate_ratio": 1.329576,
            "false_positive_rate_ratio": 1.557766,
            "average_absolute_odds_difference": 0.071442,
            "sensitivity_difference": 0.055068,
            "selection_rate_difference": 0.100627,
            "disparate_impact": 1.492167,
            "selection_rate_ratio_deviation": 0.492167,
            "selection_rate_log_ratio_deviation": np.log(1.492167),
            "false_negative_rate_log_ratio_deviation": -np.log(0.849874),
        },
    ),
    "GLOBEM gender": (
        (54, 133, 197, 75),
        (95, 142, 204, 183),
        {
            "selection_rate_ratio": 0.932255,
            "error_rate_ratio": 1.149339,
            "false_discovery_rate_ratio": 0.842423,
            "false_negative_rate_ratio": 1.132230,
            "false_omission_rate_ratio": 1.714935,
            "false_positive_rate_ratio": 1.018297,
            "average_absolute_odds_difference": 0.042126,
            "sensitivity_difference": -0.076878,
        },
    ),
    "GLOBEM disability": (
        (146, 263, 382, 249),
        (3, 12, 19, 9),
        {
            "selection_rate_ratio": 0.887019,
            "error_rate_ratio": 0.992006,
            "false_discovery_rate_ratio": 1.244106,
            "false_negative_rate_ratio": 1.189759,
            "false_omission_rate_ratio": 0.814544,
            "false_positive_rate_ratio": 0.949344,
            "average_absolute_odds_difference": 0.070138,
        },
    ),
}
RATES = (
    "selection_rate",
    "error_rate",
    "false_discovery_rate",
    "false_negative_rate",
    "false_omission_rate",
    "false_positive_rate",
    "sensitivity",
)
POINT = {"rng": np.random.default_rng(0)}


def from_counts(privileged, unprivileged):
    labels, decisions, group = [], [], []
    for name, (tp, fp, tn, fn) in (("p", privileged), ("u", unprivileged)):
        labels += [1] * tp + [0] * fp + [0] * tn + [1] * fn
        decisions += [1] * tp + [1] * fp + [0] * tn + [0] * fn
        group += [name] * (tp + fp + tn + fn)
    return as_scored(labels, np.asarray(decisions, float)), {"x": groups_of(group)}


def values(rows, groups, metrics=(), across=(), **plan):
    table = measure(rows, groups, Plan(metrics, across, bootstrap=None, **plan), **POINT)
    table = table[table["attribute"] != "*"]
    return dict(zip(table["metric"], table["value"], strict=True)), table


@pytest.mark.parametrize("case", VECTORS)
def test_published_vectors(case):
    privileged, unprivileged, expected = VECTORS[case]
    rows, groups = from_counts(privileged, unprivileged)
    contrasts = ("difference", "ratio", "ratio_deviation", "log_ratio_deviation")
    named = ("disparate_impact", "average_absolute_odds_difference")
    result, table = values(rows, groups, RATES, (*contrasts, *named), references={"x": "p"})
    of_group = table[table["group"] == "u"]
    result = dict(zip(of_group["metric"], of_group["value"], strict=True))
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6), name


SIZES = ("ratio_deviation", "log_ratio_deviation")
SUMS = ("average_absolute_odds_difference", "equalized_odds_mean", "eopp1_sum", "nar")


def alike(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=400)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    return as_scored(labels, scores), {"x": groups_of(rng.choice(["a", "b"], 400))}


def test_intervals_of_sizes_hold_their_value_and_parity():
    """Whose percentiles would lie above 0 in every cohort, though the groups are alike."""
    plan = Plan(("sensitivity",), (*SIZES, *SUMS), bootstrap=Bootstrap(200))
    holds = []
    for seed in range(30):
        table = measure(*alike(seed), plan, rng=np.random.default_rng(seed))
        across = table[table["metric"].str.contains("|".join((*SIZES, *SUMS)))]
        assert (across["low"] <= across["value"]).all()
        assert (across["value"] <= across["high"]).all()
        assert (across["low"] >= 0).all()
        holds.append(across["low"] == 0)
    assert np.mean(holds) > 0.85


def test_a_share_of_parity_does_not_pass_1():
    plan = Plan(("sensitivity",), ("min_ratio", "pqd", "dpm"), bootstrap=Bootstrap(200))
    table = measure(*alike(0), plan, rng=np.random.default_rng(0))
    across = (
        table[table["group"] == "*"]
        .set_index("metric")
        .loc[["sensitivity_min_ratio", "pqd", "dpm"]]
    )
    assert (across["high"] == 1).all()


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_ratios_of_what_may_be_negative_are_not_bounded(shift):
    rows, groups = alike(1)
    moved = as_scored(rows.labels, 1 / (1 + np.exp(-shift - 4 * (rows.scores - 0.5))))
    plan = Plan(("calibration_intercept",), ("ratio", "min_ratio"), bootstrap=Bootstrap(200))
    table = measure(moved, groups, plan, rng=np.random.default_rng(0))
    ratios = table[table["metric"].str.contains("ratio")]
    assert (ratios["low"] <= ratios["value"]).all()
    assert (ratios["value"] <= ratios["high"]).all()


@st.composite
def many_groups(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_groups = draw(st.integers(2, 5))
    n = draw(st.integers(20 * n_groups, 300))
    group = np.append(np.repeat(np.arange(n_groups), 4), rng.integers(n_groups, size=n))
    labels = np.append(np.tile([0, 0, 1, 1], n_groups), rng.integers(2, size=n))
    decisions = np.append(np.tile([0, 1, 0, 1], n_groups), rng.integers(2, size=n))
    return labels, decisions, np.char.add("g", group.astype(str))


@given(data=many_groups())
@settings(max_examples=50)
def test_agrees_with_fairlearn(data):
    y, decided, group = data
    expected = {
        "demographic_parity_difference": fl.demographic_parity_difference,
        "demographic_parity_ratio": fl.demographic_parity_ratio,
        "equal_opportunity_difference": fl.equal_opportunity_difference,
        "equalized_odds_difference": fl.equalized_odds_difference,
    }
    rows, groups = as_scored(y, decided.astype(float)), {"x": groups_of(group)}
    result, _ = values(rows, groups, (), (*expected, "equalized_odds_mean"))
    for name, reference in expected.items():
        assert result[name] == pytest.approx(
            reference(y, decided, sensitive_features=group), rel=1e-12, abs=1e-12
        )
    mean = fl.equalized_odds_difference(y, decided, sensitive_features=group, agg="mean")
    assert result["equalized_odds_mean"] == pytest.approx(mean, rel=1e-12, abs=1e-12)


@given(data=many_groups())
@settings(max_examples=25)
def test_summaries_agree_with_fairlearn(data):
    y, decided, group = data
    rates = {
        "sensitivity": fl.true_positive_rate,
        "false_positive_rate": fl.false_positive_rate,
        "selection_rate": fl.selection_rate,
    }
    frame = fl.MetricFrame(metrics=rates, y_true=y, y_pred=decided, sensitive_features=group)
    result, _ = values(
        as_scored(y, decided.astype(float)),
        {"x": groups_of(group)},
        tuple(rates),
        ("gap", "min_ratio", "worst", "best"),
    )
    for name in rates:
        assert result[f"{name}_gap"] == pytest.approx(frame.difference()[name], abs=1e-12)
        assert result[f"{name}_min_ratio"] == pytest.approx(frame.ratio()[name], abs=1e-12)
    assert result["sensitivity_worst"] == pytest.approx(frame.group_min()["sensitivity"])
    assert result["sensitivity_best"] == pytest.approx(frame.group_max()["sensitivity"])
    assert result["false_positive_rate_worst"] == pytest.approx(
        frame.group_max()["false_positive_rate"]
    )


def test_fairprune_by_hand():
    # Three classes; group a decides everything right, b takes half of class 0 for class 1.
    labels = [0, 0, 1, 1, 2, 2] * 2
    decided = [0, 0, 1, 1, 2, 2, 0, 1, 1, 1, 2, 2]
    rows = as_scored(labels, np.eye(3)[decided])
    groups = {"x": groups_of(["a"] * 6 + ["b"] * 6)}
    result, _ = values(rows, groups, (), tuple(n for n in FAIRNESS if n != "equity_scaled_auc"))
    # TPR differs by 1/2 in class 0; TNR by 1/4 in class 1, whose false positives are 1 of 4
    assert result["eopp0_sum"] == pytest.approx(1 / 4)
    assert result["eopp0_mean"] == pytest.approx(1 / 12)
    assert result["eopp1_sum"] == pytest.approx(1 / 2)
    assert result["eopp1_mean"] == pytest.approx(1 / 6)
    assert result["eodd_fairprune_sum"] == pytest.approx(1 / 2 + 1 / 4)
    assert result["eodd_fairprune_mean"] == pytest.approx(1 / 4)
    assert result["pqd"] == pytest.approx(5 / 6)
    assert result["nar"] == pytest.approx((1 / 6) / (11 / 12))
    # shares decided: class 0 1/3 and 1/6, class 1 1/3 and 1/2, class 2 1/3 and 1/3
    assert result["dpm"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert result["eom"] == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_opposite_errors_cancel_in_fairprunes_equalized_odds_only():
    # a: TPR 1, FPR 0; b: TPR 1/2, FPR 1/2
    rows = as_scored([1, 1, 0, 0] * 2, [1.0, 1, 0, 0, 1, 0, 1, 0])
    groups = {"x": groups_of(["a"] * 4 + ["b"] * 4)}
    result, _ = values(rows, groups, (), ("eodd_fairprune_sum", "equalized_odds_difference"))
    assert result["eodd_fairprune_sum"] == 0
    assert result["equalized_odds_difference"] == 0.5


def test_equity_scaled_auc_by_hand():
    rows = as_scored([0, 1, 0, 1, 0, 1], [0.1, 0.9, 0.8, 0.2, 0.3, 0.4])
    groups = {"x": groups_of(["a", "a", "b", "b", "unknown", "unknown"])}
    result, _ = values(rows, groups, (), ("equity_scaled_auc",))
    # a 1, b 0; together .9 and .2 against .1 and .8: three of four pairs are in order
    assert result["equity_scaled_auc"] == pytest.approx(0.75 / (1 + 0.25 + 0.75))


def test_equity_scaled_auc_leaves_out_the_same_classes_everywhere():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 1])  # the second group has no class 2
    scores = rng.dirichlet(np.ones(3), 10)
    group = np.array(["a"] * 6 + ["b"] * 4)
    rows, groups = as_scored(labels, scores), {"x": groups_of(group)}
    result, _ = values(rows, groups, ("auc",), ("equity_scaled_auc",))

    def macro(rows):
        return np.mean([roc_auc_score(labels[rows] == c, scores[rows, c]) for c in (0, 1)])

    overall, of_groups = macro(group != ""), [macro(group == name) for name in ("a", "b")]
    expected = overall / (1 + np.abs(np.array(of_groups) - overall).sum())
    assert result["equity_scaled_auc"] == pytest.approx(expected, rel=1e-12)


@given(data=many_groups())
@settings(max_examples=10)
def test_renaming_groups_changes_nothing(data):
    y, decided, group = data
    scores = np.clip(decided * 0.5 + y * 0.2, 0, 1)
    renamed = np.char.add("z", np.char.replace(group, "g", ""))[::1]
    swapped = np.array([f"q{9 - int(name[1:])}" for name in renamed])  # the order turns round
    rows = as_scored(y, scores)
    result = [
        values(rows, {"x": groups_of(names)}, ("auc", "sensitivity"), ("gap", *FAIRNESS))[1]
        for names in (group, swapped)
    ]
    tables = [table[table["group"] == "*"]["value"].to_numpy() for table in result]
    np.testing.assert_allclose(*tables, rtol=1e-12, atol=1e-15)


def test_an_undefined_group_makes_a_gap_undefined_unless_it_is_excluded():
    rows = as_scored([0, 1, 0, 1, 0, 0], [0.1, 0.9, 0.2, 0.8, 0.3, 0.7])
    groups = {"x": groups_of(["a", "a", "b", "b", "c", "c"])}
    every = ("worst", "gap", "equal_opportunity_difference", "eopp1_sum", "equity_scaled_auc")
    _, table = values(rows, groups, ("auc",), every)
    across = table[table["group"] == "*"]
    assert across["value"].isna().all()
    assert across["undefined"].str.contains("group 'c': .*no positives among 2 samples").all()
    _, table = values(rows, groups, ("auc",), every, excluded={"x": {"c"}})
    across = table[table["group"] == "*"]
    assert across["undefined"].isna().all()
    assert (across["n"] == 4).all()
    assert "c" in set(table["group"])


def test_an_attribute_without_any_known_level_has_reasons_instead_of_numbers():
    rows = as_scored([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    groups = {"g": groups_of(["unknown"] * 4)}
    across = (*SUMMARIES, *CONTRASTS, *FAIRNESS)
    table = measure(rows, groups, Plan(("auc",), across), rng=np.random.default_rng(0))
    text = table[(table["attribute"] == "g") & (table["group"] == "*")]
    assert len(text)
    assert text["value"].isna().all()
    assert text["undefined"].notna().all()
