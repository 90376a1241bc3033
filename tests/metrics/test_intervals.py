from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from evenhand.metrics import Bootstrap, Plan, as_scored, families, groups_of, measure
from evenhand.metrics.families import family_of_draws
from evenhand.metrics.intervals import (
    CONSTANT,
    NEARLY_CONSTANT,
    extreme_interval,
    resampled_interval,
    spread_interval,
)
from evenhand.metrics.resample import as_resamples, resample


def test_what_is_no_share_has_no_exact_interval():
    """A Brier score of 0 in every resample is no count of trials."""
    labels = np.tile([0, 1], 10)
    rows = as_scored(labels, labels.astype(float))
    table = measure(rows, {}, Plan(("brier", "auc"), ()), rng=np.random.default_rng(0))
    brier, auc = table.to_dict("records")
    assert (brier["value"], brier["no_interval"]) == (0, CONSTANT)
    assert np.isnan(brier["high"])
    assert (auc["value"], auc["interval_method"]) == (1, "exact")


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
    table = measure(as_scored(labels, probability), {}, plan, rng=np.random.default_rng(2))
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
    assert table["interval_method"][0] == method
    assert table["approximate"][0] == "120 patients"


def test_bca_breaks_down_to_percentiles_and_says_so():
    bca = Bootstrap(200, method="bca")
    resamples = resample(50, bca, np.random.default_rng(0))
    drawn, left_out = np.linspace(0, 1, 200), np.linspace(0.4, 0.6, 50)
    result = resampled_interval(
        np.concatenate([[2.0], drawn, left_out]), resamples, bca
    )  # beyond them all
    assert result.method == "percentile (BCa breaks down)"
    assert (result.low, result.high) == pytest.approx((0.025, 0.975))


def test_five_of_five_less_seven_of_seven_is_no_proof_of_equality():
    """Both shares are the same in every resample; their exact intervals speak instead."""
    labels = [1] * 12 + [0] * 8
    rows = as_scored(labels, np.where(labels, 0.9, 0.1))
    groups = {"x": groups_of(["a"] * 5 + ["b"] * 7 + ["a"] * 4 + ["b"] * 4)}
    plan = Plan(("sensitivity",), ("difference", "gap", "worst"))
    table = measure(rows, groups, plan, rng=np.random.default_rng(0)).set_index("metric")
    five, seven = 1 - 0.025 ** (1 / 5), 1 - 0.025 ** (1 / 7)
    difference = table.loc["sensitivity_difference"]
    assert (difference["group"], difference["reference"]) == ("a", "b")
    assert difference["interval_method"] == "exact"
    assert (difference["low"], difference["high"]) == pytest.approx((-five, seven))
    gap = table.loc["sensitivity_gap"]
    assert (gap["value"], gap["low"], gap["high"]) == pytest.approx((0, 0, five))
    assert gap["interval_method"] == "simultaneous and exact"
    assert gap["approximate"] == "5 patients"
    paired = measure(rows, {}, Plan(("auc",)), rng=np.random.default_rng(0), against=rows).iloc[0]
    assert (paired["low"], paired["high"]) == pytest.approx((-0.369416, 0.369416), abs=1e-6)


def test_some_less_none_of_seven_reaches_as_far_down_as_seven_may_hide():
    labels, group = np.ones(47, dtype=int), np.repeat(["some", "none"], [40, 7])
    rows = as_scored(labels, np.append(np.tile([0.9, 0.1], 20), np.full(7, 0.1)))
    plan = Plan(("sensitivity",), ("difference",), references={"x": "none"})
    table = measure(rows, {"x": groups_of(group)}, plan, rng=np.random.default_rng(0))
    first_few = table[(table["group"] == "some") & (table["metric"] == "sensitivity")].iloc[0]
    less = table[table["metric"] == "sensitivity_difference"].iloc[0]
    hidden = 1 - 0.025 ** (1 / 7)  # the upper end of none of seven, by Clopper and Pearson
    # A few resamples have none of the seven in them, and are left out of the difference.
    assert less["low"] == pytest.approx(0.5 - np.hypot(0.5 - first_few["low"], hidden), abs=2e-3)
    assert less["high"] == pytest.approx(first_few["high"], abs=2e-3)


def one_perfect_group(perfect=5, others=20):
    """Every case of one small group is found, and half of those of a larger one."""
    labels = np.array([1] * perfect + [1, 0] * others)
    result = (np.arange(2 * others) // 2) % 2 == 0
    score = np.append(np.ones(perfect), np.where(result, 0.9, 0.1))
    names = ["perfect"] * perfect + ["other"] * (2 * others)
    return as_scored(labels, score), groups_of(names)


def test_a_group_that_no_resample_changes_widens_what_is_said_beside_it():
    """The exact interval of 5 of 5 and the percentiles of 10 of 20, joined."""
    rows, values = one_perfect_group()
    plan = Plan(("sensitivity",), ("best", "worst", "gap", "difference", "detectable"))
    table = measure(rows, {"x": values}, plan, rng=np.random.default_rng(0))
    table = table[table["attribute"] == "x"]
    other = table[(table["group"] == "other") & (table["metric"] == "sensitivity")].iloc[0]
    result = table.set_index("metric").loc[lambda rows: ~rows.index.duplicated(keep="last")]
    signed, five = result.loc["sensitivity_difference"], 1 - 0.025 ** (1 / 5)
    assert (signed["group"], signed["reference"]) == ("perfect", "other")
    assert signed["interval_method"] == "logit t and exact"
    assert signed["approximate"] == "5 patients"
    assert signed["low"] == pytest.approx(0.5 - np.hypot(five, other["high"] - 0.5))
    assert signed["high"] == pytest.approx(0.5 + (0.5 - other["low"]))
    assert result.loc["sensitivity_gap", "low"] == 0
    assert result.loc["sensitivity_best", "low"] < 0.55
    assert result.loc["sensitivity_best", "high"] == 1
    assert result.loc["sensitivity_worst", "low"] < other["low"]
    assert (
        "the same in every resample: 'perfect'" in result.loc["sensitivity_detectable", "undefined"]
    )


@pytest.mark.parametrize(("perfect", "stands_in_the_way"), [(400, False), (5, True)])
def test_only_a_group_that_can_be_the_worst_hinders_comparing_the_worst(perfect, stands_in_the_way):
    """No error of 400 cases that all are found reaches down to 20 of 40; that of 5 does."""
    rows, values = one_perfect_group(perfect)
    fewer = np.arange(len(rows.scores)) % 8 < 3
    worse = as_scored(rows.labels, np.where((values.codes == 0) & fewer, 0.1, rows.scores))
    assert values.levels[0] == "other"
    plan = Plan(("sensitivity",), ("worst", "best"))
    table = measure(rows, {"x": values}, plan, rng=np.random.default_rng(0), against=worse)
    of_other, across = table[table["group"] == "other"].iloc[0], table.set_index("metric")
    worst, best = across.loc["sensitivity_worst"], across.loc["sensitivity_best"]
    none = ("the same in every resample: 'perfect'", "biased where groups are close")
    assert worst["value"] == of_other["value"] > 0
    assert (best["no_interval"], best["note"]) == none
    if stands_in_the_way:
        assert (worst["no_interval"], worst["note"]) == none
    else:
        # t of the fewest patients of any group, here of the worst one
        assert (worst["low"], worst["high"]) == (of_other["low"], of_other["high"])


def test_what_is_made_of_a_value_that_never_changes_makes_no_claim():
    """A group of one patient is the same in every resample that draws it; nothing bounds 2 of 3."""
    labels, patients = np.array([1, 1, 1, 0] + [1, 0] * 20), np.append([0] * 4, np.arange(1, 41))
    score = np.append([0.9, 0.9, 0.3, 0.2], np.linspace(0.05, 0.95, 40).round(2))
    rows = as_scored(labels, score, patients=patients)
    groups = {"x": groups_of(["one"] * 4 + ["other"] * 40)}
    across = ("difference", "gap", "worst", "ratio", "average_absolute_odds_difference")
    plan = Plan(("sensitivity", "log_loss"), across)
    table = measure(rows, groups, plan, rng=np.random.default_rng(0))
    alone = table[table["group"] == "one"]
    alone = alone[alone["metric"].isin(plan.metrics)]
    assert (alone["no_interval"] == "the same in every resample").all()
    beside = table[(table["attribute"] == "x") & ~table["metric"].isin(plan.metrics)]
    assert len(beside) == 9
    assert beside["low"].isna().all()
    assert beside["no_interval"].str.contains("the same in every resample: 'one'").all()
    flat = as_scored(labels, np.full(44, 0.5), patients=patients)
    less = measure(rows, groups, plan, rng=np.random.default_rng(0), against=flat)
    assert less[less["metric"] == "log_loss_difference"]["low"].isna().all()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1),
    st.integers(0, 2**32 - 1),
)
def test_nothing_is_certain(samples, seed):
    """No interval is a point, and each holds its value, whatever was found in whichever group."""
    names, labels, decided = zip(*samples, strict=True)
    rows = as_scored(np.array(labels, dtype=int), np.where(decided, 0.8, 0.2))
    across = ("worst", "best", "gap", "difference", "ratio", "equalized_odds_difference", "eom")
    plan = Plan(("auc", "sensitivity", "accuracy", "log_loss"), across, bootstrap=Bootstrap(60))
    table = measure(rows, {"x": groups_of(names)}, plan, rng=np.random.default_rng(seed))
    text = table[table["low"].notna()]
    assert (text["low"] < text["high"]).all()
    exact = text[text["interval_method"].str.contains("exact")]
    assert (exact["low"] <= exact["value"]).all()
    assert (exact["value"] <= exact["high"]).all()


def test_macro_shares_are_as_sure_as_their_rarest_class():
    labels = np.repeat([0, 1, 2], [40, 40, 3])
    rows = as_scored(labels, np.eye(3)[labels])
    table = measure(rows, {}, Plan(("sensitivity",), ()), rng=np.random.default_rng(0))
    assert table["low"][0] == pytest.approx(0.025 ** (1 / 3))


@pytest.mark.slow
def test_differences_cover_where_a_group_is_nearly_perfect():
    """Sensitivities of .97 of 25 patients and .8 of 60: all 25 are found in half of the cohorts."""
    rng = np.random.default_rng(5)
    plan = Plan(("sensitivity",), ("difference", "gap"), bootstrap=Bootstrap(300))
    values = {"x": groups_of(["small"] * 25 + ["large"] * 60)}
    hits, certain = {"sensitivity_difference": 0, "sensitivity_gap": 0}, 0
    for _ in range(300):
        result = rng.random(85) < np.repeat([0.97, 0.8], [25, 60])
        rows = as_scored(np.ones(85, dtype=int), np.where(result, 0.9, 0.1))
        table = measure(rows, values, plan, rng=rng).set_index("metric")
        certain += result[:25].all()
        for metric in hits:
            hits[metric] += table.loc[metric, "low"] <= 0.17 <= table.loc[metric, "high"]
    assert 100 < certain < 200
    assert all(share >= 0.93 * 300 for share in hits.values()), hits


def test_bca_by_its_formula():
    """Biased draws and skewed leave-outs; the formula is Efron's, eq. (14.9) of his book."""
    rng = np.random.default_rng(0)
    drawn, left_out = rng.normal(0.3, 1, size=5000), -rng.exponential(size=40)
    bootstrap = Bootstrap(5000, method="bca")
    resamples = as_resamples(np.zeros((5041, 1), dtype=np.uint8), 5000)
    result = resampled_interval(np.concatenate([[0.0], drawn, left_out]), resamples, bootstrap)
    z0 = norm.ppf((drawn < 0).mean())
    d = left_out.mean() - left_out
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    for end, tail in ((result.low, 0.025), (result.high, 0.975)):
        z = z0 + norm.ppf(tail)
        assert end == pytest.approx(np.quantile(drawn, norm.cdf(z0 + z / (1 - a * z))), rel=1e-12)


def test_a_share_of_all_or_none_is_not_certain():
    """Five of five patients with a positive, each with two images."""
    patients = np.repeat(np.arange(25), 2)
    labels = (patients < 5).astype(int)
    rows = as_scored(labels, np.where(labels == 1, 0.9, 0.1), patients=patients)
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
        assert table.loc[name, "interval_method"] == "exact"


def simulated(truth, error, rng, replicates=400):
    place = rng.normal(truth, error)
    drawn = rng.normal(place[:, None], error, size=(len(place), replicates))
    return np.concatenate([place[:, None], drawn], axis=1)


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
        numbers = family_of_draws(tuple("abcde"), values)
        ours = spread_interval([numbers], resamples, bootstrap)
        plain = resampled_interval(values.max(axis=0) - values.min(axis=0), resamples, bootstrap)
        lowest = extreme_interval(numbers, "lowest", resamples, bootstrap)
        spread_hits += ours.low <= apart <= ours.high
        plain_hits += plain.low <= apart <= plain.high
        lowest_hits += lowest.low <= 0 <= lowest.high
    assert spread_hits >= 0.93 * 400
    assert lowest_hits >= 0.93 * 400
    if not apart:
        assert plain_hits == 0


@pytest.mark.parametrize(("share", "has_interval"), [(0.4, True), (0.6, False)])
def test_no_interval_where_most_resamples_are_undefined(share, has_interval):
    rng = np.random.default_rng(0)
    values = rng.normal(size=401)
    values[1 : 1 + round(400 * share)] = np.nan
    result = resampled_interval(values, resample(2, Bootstrap(400), rng), Bootstrap(400))
    assert (result.low is not None) == has_interval
    assert result.undefined == round(400 * share)


def test_what_bca_leaves_out_is_no_resample_of_a_gap():
    rows = as_scored(np.tile([0, 1], 150), np.random.default_rng(1).random(300))
    groups = {"x": groups_of(np.repeat(["a", "b", "c"], 100))}
    ends = []
    for method in ("percentile", "bca"):
        plan = Plan(("auc",), ("gap",), bootstrap=Bootstrap(200, method=method))
        table = measure(rows, groups, plan, rng=np.random.default_rng(2)).set_index("metric")
        ends.append(table.loc["auc_gap", ["low", "high"]].tolist())
    assert ends[0] == pytest.approx(ends[1])


def test_the_order_of_groups_does_not_matter_to_a_gap():
    rng = np.random.default_rng(3)
    values = simulated(np.linspace(0, 9, 4), 0.5, rng)
    resamples = resample(2, Bootstrap(400), rng)
    first, other = (
        spread_interval([family_of_draws(tuple("abcd"), values[order])], resamples, Bootstrap(400))
        for order in ([0, 1, 2, 3], [3, 2, 1, 0])
    )
    assert first.low > 5  # far from 0, whichever group comes first
    assert (first.low, first.high) == pytest.approx((other.low, other.high))


@pytest.mark.parametrize("pairs", [7, 30, 64])
def test_a_gap_is_the_same_however_many_pairs_are_worked_on_at_a_time(pairs, monkeypatch):
    rng = np.random.default_rng(4)
    common = rng.normal(size=(1, 401))  # the groups share patients: their values are correlated
    values = simulated(np.linspace(0, 1, 9), 0.5, rng) + common * np.linspace(0, 1, 9)[:, None]
    how = (
        [family_of_draws(tuple("abcdefghi"), values)],
        resample(2, Bootstrap(400), rng),
        Bootstrap(400),
    )
    whole = spread_interval(*how)
    monkeypatch.setattr(families, "PAIRS", pairs)
    by_blocks = spread_interval([family_of_draws(tuple("abcdefghi"), values)], *how[1:])
    assert (by_blocks.low, by_blocks.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


def test_intervals_of_gaps_are_never_below_nought():
    rng = np.random.default_rng(0)
    rows = as_scored(rng.integers(2, size=200), rng.random(200))
    groups = {"x": groups_of(rng.choice(["a", "b", "c"], size=200))}
    plan = Plan(("auc",), ("gap", "demographic_parity_difference", "equalized_odds_difference"))
    table = measure(rows, groups, plan, rng=rng)
    across = table[(table["attribute"] == "x") & (table["group"] == "*")]
    assert (across["interval_method"] == "simultaneous").all()
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
    rows = as_scored(labels, 1 / (1 + np.exp(-apart * (labels - 0.5) - rng.normal(size=900))))
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
    rows = as_scored(
        labels, np.clip(0.5 + 0.3 * (labels - 0.5) + 0.5 * rng.random(60), 0, 1), threshold=0.8
    )
    groups = {"x": groups_of(np.repeat(["a", "b", "c"], 20))}
    across = ("worst", "best", "gap", "equalized_odds_difference")
    table = measure(rows, groups, Plan(("auc", "sensitivity"), across), rng=rng)
    assert table["low"].dropna().between(0, 1).all()
    assert table["high"].dropna().between(0, 1).all()
    assert table["interval_method"].str.startswith("simultaneous").sum() == 7


def test_what_nearly_no_resample_changes_is_not_certain():
    """Two groups' values are 0 but in 10 of 1,000 resamples: no interval is [0, 0]."""
    values = np.zeros((2, 1001))
    values[:, 1:11] = 0.1
    bootstrap, resamples = Bootstrap(), as_resamples(np.ones((1001, 1), dtype=np.uint8), 1000)
    both = family_of_draws(("a", "b"), values)
    lowest = extreme_interval(both, "lowest", resamples, bootstrap)
    assert lowest.low is not None
    assert lowest.high is not None
    assert lowest.low < 0 < lowest.high
    alone = resampled_interval(values[0], resamples, bootstrap)
    assert (alone.low, alone.reason) == (None, NEARLY_CONSTANT)


def test_a_fixed_share_beside_others_gets_its_part_of_the_error_rate():
    """Bonferroni's: the resamples give no |t| of a share that never changes."""
    values = np.ones((3, 1001))
    fixed = replace(
        family_of_draws(("a", "b", "c"), values),
        scale="share",
        fixed=np.ones(3, dtype=bool),
        trials=np.full(3, 20),
        patients=np.full(3, 20),
    )
    resamples = as_resamples(np.ones((1001, 1), dtype=np.uint8), 1000)
    lowest = extreme_interval(fixed, "lowest", resamples, Bootstrap())
    assert lowest.low == pytest.approx((0.05 / 6) ** (1 / 20))
