from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from evenhand.measure import Bootstrap, Plan, groups_of, measure, scored
from evenhand.measure.intervals import extreme_interval, interval, spread_interval
from evenhand.measure.resample import resample


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
    rows = scored([0, 1] * 10, [0.1, 0.9] * 10)  # every resample is perfect
    plan = Plan(("auc",), (), bootstrap=Bootstrap(200, method="bca"))
    table = measure(rows, {}, plan, rng=np.random.default_rng(0))
    assert table["method"][0] == "percentile (BCa breaks down)"
    assert (table["low"][0], table["high"][0]) == (1, 1)


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
