from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm

from evenhand.measure import Bootstrap, Plan, groups_of, measure, scored
from evenhand.measure.intervals import extreme_interval, interval, spread_interval
from evenhand.measure.resample import Resamples, resample


def test_every_resample_draws_as_many_patients_as_there_are():
    drawn = resample(50, Bootstrap(30), np.random.default_rng(0))
    assert drawn.weights.shape == (31, 50)
    assert (drawn.weights[0] == 1).all()
    assert (drawn.weights.sum(axis=1) == 50).all()


def test_leave_outs_are_blocks_of_patients():
    drawn = resample(1000, Bootstrap(5, method="bca"), np.random.default_rng(0))
    left_out = drawn.weights[6:]
    assert left_out.shape == (200, 1000)
    assert (left_out.sum(axis=1) == 995).all()
    assert (left_out.sum(axis=0) == 199).all()


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_agrees_with_scipy(method):
    """The mean of skewed numbers, against scipy's bootstrap of the same."""
    rng = np.random.default_rng(1)
    probability = rng.beta(0.3, 3, size=120)
    labels = np.zeros(120, dtype=int)
    plan = Plan(("brier",), (), bootstrap=Bootstrap(20_000, method=method))
    table = measure(scored(labels, probability), {}, plan, rng=np.random.default_rng(2))
    expected = scipy.stats.bootstrap(
        (probability**2,),
        np.mean,
        n_resamples=20_000,
        method=method,
        vectorized=True,
        rng=np.random.default_rng(3),
    ).confidence_interval
    width = expected.high - expected.low
    assert table["low"][0] == pytest.approx(expected.low, abs=0.03 * width)
    assert table["high"][0] == pytest.approx(expected.high, abs=0.03 * width)
    assert table["method"][0] == method


def test_bca_breaks_down_to_percentiles_and_says_so():
    bca = Bootstrap(200, method="bca")
    resamples = resample(50, bca, np.random.default_rng(0))
    drawn, left_out = np.linspace(0, 1, 200), np.linspace(0.4, 0.6, 50)
    found = interval(np.concatenate([[2.0], drawn, left_out]), resamples, bca)  # beyond them all
    assert found.method == "percentile (BCa breaks down)"
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))


def test_what_never_varies_has_no_interval():
    """Five of five less seven of seven is no proof of a difference of exactly 0."""
    labels = [1] * 12 + [0] * 8
    rows = scored(labels, np.where(labels, 0.9, 0.1))
    groups = {"x": groups_of(["a"] * 5 + ["b"] * 7 + ["a"] * 4 + ["b"] * 4)}
    plan = Plan(("sensitivity",), ("difference", "gap", "worst"))
    rng = np.random.default_rng(0)
    for table in (
        measure(rows, groups, plan, rng=rng)[3:],
        measure(rows, groups, plan, rng=rng, against=rows),
    ):
        assert len(table) >= 3
        assert table["low"].isna().all()
        assert table["method"].str.contains("no interval: the same in every resample").all()


def test_bca_by_its_formula():
    """Biased draws and skewed leave-outs; the formula is Efron's, eq. (14.9) of his book."""
    rng = np.random.default_rng(0)
    drawn, left_out = rng.normal(0.3, 1, size=5000), -rng.exponential(size=40)
    bootstrap = Bootstrap(5000, method="bca")
    resamples = Resamples(np.zeros((5041, 1), dtype=np.uint8), 5000)
    found = interval(np.concatenate([[0.0], drawn, left_out]), resamples, bootstrap)
    z0 = norm.ppf((drawn < 0).mean())
    d = left_out.mean() - left_out
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    for end, tail in ((found.low, 0.025), (found.high, 0.975)):
        z = z0 + norm.ppf(tail)
        assert end == pytest.approx(np.quantile(drawn, norm.cdf(z0 + z / (1 - a * z))), rel=1e-12)


def test_a_share_of_all_or_none_is_not_certain():
    """Five of five patients with a positive, each with two images."""
    patients = np.repeat(np.arange(25), 2)
    labels = (patients < 5).astype(int)
    rows = scored(labels, np.where(labels == 1, 0.9, 0.1), patients=patients)
    metrics = ("sensitivity", "false_negative_rate", "specificity", "accuracy", "auc")
    table = measure(rows, {}, Plan(metrics, ()), rng=np.random.default_rng(0)).set_index("metric")
    for name, k, n in (
        ("sensitivity", 5, 5),
        ("false_negative_rate", 0, 5),
        ("specificity", 20, 20),
        ("accuracy", 25, 25),
        ("auc", 5, 5),
    ):
        exact = scipy.stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert table.loc[name, "low"] == pytest.approx(exact.low, abs=1e-12), name
        assert table.loc[name, "high"] == pytest.approx(exact.high, abs=1e-12), name
        assert table.loc[name, "method"] == "exact"


def simulated(truth, error, rng, replicates=400):
    at = rng.normal(truth, error)
    drawn = rng.normal(at[:, None], error, size=(len(at), replicates))
    return np.concatenate([at[:, None], drawn], axis=1)


@pytest.mark.parametrize("apart", [0.0, 3.0])
def test_simultaneous_intervals_cover_tied_and_separated_groups(apart):
    """Normal estimates of five groups, 400 times; the plain percentile interval beside it."""
    rng = np.random.default_rng(7)
    truth = np.linspace(0, apart, 5)
    bootstrap = Bootstrap(400)
    resamples = resample(2, bootstrap, rng)
    spread_hits = plain_hits = lowest_hits = 0
    for _ in range(400):
        values = simulated(truth, 0.5, rng)
        ours = spread_interval([values], resamples, bootstrap)
        plain = interval(values.max(axis=0) - values.min(axis=0), resamples, bootstrap)
        lowest = extreme_interval(values, "lowest", resamples, bootstrap)
        spread_hits += ours.low <= apart <= ours.high
        plain_hits += plain.low <= apart <= plain.high
        lowest_hits += lowest.low <= 0 <= lowest.high
    assert spread_hits >= 0.93 * 400
    assert lowest_hits >= 0.93 * 400
    if not apart:
        assert plain_hits == 0


def test_intervals_of_gaps_are_never_below_nought():
    rng = np.random.default_rng(0)
    rows = scored(rng.integers(2, size=200), rng.random(200))
    groups = {"x": groups_of(rng.choice(["a", "b", "c"], size=200))}
    plan = Plan(("auc",), ("gap", "demographic_parity_difference", "equalized_odds_difference"))
    table = measure(rows, groups, plan, rng=rng)
    across = table[(table["attribute"] == "x") & (table["group"] == "*")]
    assert (across["method"] == "simultaneous").all()
    assert (across["low"] >= 0).all()
    assert (across["low"] <= across["value"]).all()
    assert (across["value"] <= across["high"]).all()


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_intervals_of_the_worst_and_best_group_are_about_those_groups(metric):
    """Groups far apart: the intervals must not reach each other."""
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b", "c"], 300)
    labels = rng.integers(2, size=900)
    apart = np.repeat([0.2, 2.0, 4.0], 300)
    rows = scored(labels, 1 / (1 + np.exp(-apart * (labels - 0.5) - rng.normal(size=900))))
    plan = Plan((metric,), ("worst", "best"))
    table = measure(rows, {"x": groups_of(group)}, plan, rng=rng).set_index("metric")
    worst, best = table.loc[f"{metric}_worst"], table.loc[f"{metric}_best"]
    for row in (worst, best):
        assert row["low"] < row["value"] < row["high"]
    low, high = sorted([worst, best], key=lambda row: row["value"])
    assert low["high"] < high["low"]


def test_intervals_of_shares_stay_shares():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=60)
    rows = scored(
        labels, np.clip(0.5 + 0.3 * (labels - 0.5) + 0.5 * rng.random(60), 0, 1), threshold=0.8
    )
    groups = {"x": groups_of(np.repeat(["a", "b", "c"], 20))}
    across = ("worst", "best", "gap", "equalized_odds_difference")
    table = measure(rows, groups, Plan(("auc", "sensitivity"), across), rng=rng)
    assert table["low"].dropna().between(0, 1).all()
    assert table["high"].dropna().between(0, 1).all()
    assert (table["method"] == "simultaneous").sum() == 7


def test_a_best_group_that_no_resample_changes_claims_no_certainty():
    labels = np.array([1] * 5 + [1, 0] * 20)
    score = np.where(np.arange(45) < 5, 1.0, np.where(np.arange(45) % 3, 0.9, 0.1))
    groups = {"x": groups_of(["perfect"] * 5 + ["other"] * 40)}
    plan = Plan(("sensitivity",), ("best", "worst"))
    table = measure(scored(labels, score), groups, plan, rng=np.random.default_rng(0))
    across = table[(table["attribute"] == "x") & (table["group"] == "*")].set_index("metric")
    assert across.loc["sensitivity_best", "value"] == 1
    assert np.isnan(across.loc["sensitivity_best", "low"])
    assert across.loc["sensitivity_worst", "high"] < 1
