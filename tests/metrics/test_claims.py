"""What may be claimed of groups and models: corrected p-values, and what is left out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from evenhand.metrics import Bootstrap, Plan, as_scored, groups_of, judge, measure, measure_part
from evenhand.metrics import table as table_module
from evenhand.metrics.claims import _worst
from evenhand.metrics.contrasts import JointTest, adjust_together, contrast, side
from evenhand.metrics.permutation import holm

ACROSS = ("worst", "best", "gap", "difference", "detectable")


def cohort(seed=0, patients=400, auc=(0.85, 0.85), attributes=1):
    """Patients with one to three rows; the AUC differs by the first attribute, if at all."""
    rng = np.random.default_rng(seed)
    group = rng.integers(2, size=(attributes, patients))
    label = (rng.random(patients) < 0.4).astype(int)
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    signal = (label - 0.5) * norm.ppf(np.choose(group[0], auc)) * 2**0.5
    noise = rng.normal(size=patients)[patient] + rng.normal(size=len(patient))
    rows = as_scored(
        label[patient], norm.cdf(signal[patient] + noise / 2**0.5), patients=patient, threshold=0.5
    )
    names = [
        groups_of([f"{k}{level}" for level in values[patient]]) for k, values in enumerate(group)
    ]
    return rows, {f"a{k}": name for k, name in enumerate(names)}


def measured(rows, groups, against=None, **plan):
    plan = {"across": ACROSS, **plan}
    rng = np.random.default_rng(1)
    table = measure(rows, groups, Plan(**plan), rng=rng, against=against)
    return table.set_index(["attribute", "group", "metric"])


def test_a_planted_gap_is_claimed_and_nothing_beside_it():
    table = measured(*cohort(auc=(0.92, 0.75), attributes=3))
    p = table["p_adjusted"].dropna()
    assert p["a0", "*", "auc_gap"] <= 0.05
    others = p[[key[0] in ("a1", "a2") for key in p.index]]
    assert len(others) == 12  # three gaps and as many differences of each
    assert (others > 0.05).all()


def test_five_attributes_without_a_difference_are_rarely_claimed_to_differ():
    """With each gap judged by its own interval, more than half of such audits claim one."""
    claims = 0
    for seed in range(20):
        table = measured(*cohort(seed, attributes=5), bootstrap=Bootstrap(400))
        gaps = table[[name.endswith("_gap") for name in table.index.get_level_values("metric")]]
        claims += (gaps["p_adjusted"] <= 0.05).any()
    assert claims <= 4  # 1 of 20 expected; more than 4 comes in 3 of 1,000 runs


def test_a_difference_says_what_its_gap_says_and_more_models_cost_something():
    rows, groups = cohort(auc=(0.9, 0.8))
    table = measured(rows, groups)
    level = next(key[1] for key in table.index if key[2] == "auc_difference")
    first, other = (table.loc["a0", *key] for key in (("*", "auc_gap"), (level, "auc_difference")))
    assert first["p_adjusted"] == other["p_adjusted"]
    assert (table["p_adjusted"] >= table["p"])[table["p"].notna()].all()
    parts = [
        measure_part(rows, groups, Plan(across=ACROSS), rng=np.random.default_rng(1), patients=who)
        for who in ("here", "there")
    ]
    apart = [row.p_adjusted for row in judge(parts) if row.metric == "auc_gap"]
    assert apart[0] == min(1, 2 * first["p_adjusted"])  # other patients: half of the rate for each


def test_the_names_of_groups_do_not_matter():
    rows, groups = cohort(auc=(0.9, 0.8), attributes=2)
    swapped = {
        name: groups_of([{"0": "1", "1": "0"}[group.levels[code][-1]] for code in group.codes])
        for name, group in groups.items()
    }
    first, other = measured(rows, groups), measured(rows, swapped)
    for attribute in groups:
        key = (attribute, "*", "auc_gap")
        assert first.loc[key, "p_adjusted"] == pytest.approx(other.loc[key, "p_adjusted"])


def test_paired_rows_are_claimed_by_group_for_everybody_and_for_the_worst_group():
    rows, groups = cohort(patients=600)
    harmed = groups["a0"].codes == 1
    worse = as_scored(
        rows.labels,
        np.where(harmed, rows.scores / 5 + np.random.default_rng(2).random(len(rows)) / 2,
                 rows.scores),
        patients=rows.patients,
    )  # fmt: skip
    table = measured(worse, groups, against=rows)
    p = table["p_adjusted"]
    assert p["a0", "01", "auc"] <= 0.05
    assert p["*", "*", "auc"] <= 0.05
    assert p["a0", "*", "auc_worst"] <= 0.05
    assert np.isnan(p["a0", "00", "auc"])  # the same scores: there is nothing to test
    assert p.notna().sum() == 3
    reach = table.loc[("a0", "01", "auc_detectable"), "value"]
    assert 0 < reach < -table.loc[("a0", "01", "auc"), "value"]


def test_the_same_model_twice_is_claimed_to_be_nothing():
    rows, groups = cohort()
    p = measured(rows, groups, against=rows)["p_adjusted"].dropna()
    assert (p == 1).all()


def test_nothing_that_is_approximate_is_claimed(monkeypatch):
    built = table_module._row

    def row_of(number, *rest):
        row = built(number, *rest)
        few = (number.group, number.metric) == ("00", "auc")
        return replace(row, approximate="12 patients") if few else row

    inputs = cohort(auc=(0.95, 0.7))
    assert measured(*inputs)["p_adjusted"]["a0", "*", "auc_gap"] <= 0.05
    monkeypatch.setattr(table_module, "_row", row_of)
    p = measured(*inputs)["p_adjusted"]
    assert np.isnan(p["a0", "*", "auc_gap"])
    assert not np.isnan(p["a0", "*", "specificity_gap"])


def value(*drawn, estimate, share=True, trials=0, patients=50):
    return side("g", np.array([estimate, *drawn]), patients, share=share, trials=trials)


@pytest.mark.parametrize(("n", "shown"), [(5, False), (10, False), (40, True)])
def test_a_share_that_no_resample_changes_is_tested_by_exact_intervals(n, shown):
    """Five found of five do not prove a sensitivity of 1, forty of forty do so better.

    The p-value is below 5 % just where the interval of the difference leaves out 0.
    """
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.7, 0.07, 999)
    other = value(*drawn, estimate=0.7)
    result = adjust_together([contrast(value(*np.ones(999), estimate=1.0, trials=n), other)], 0.05)
    down = np.hypot(1 - 0.025 ** (1 / n), norm.isf(0.025) * drawn.std(ddof=1))
    assert (result.p[0] < 0.05) == (down < 0.3) == shown


def test_two_shares_at_the_same_end_do_not_differ():
    ones = value(*np.ones(99), estimate=1.0, trials=10)
    assert adjust_together([contrast(ones, ones)], 0.05).p[0] == 1


def test_all_pairs_at_once_are_tested_as_one_by_one():
    rng = np.random.default_rng(0)
    drawn = 1 / (1 + np.exp(-rng.normal(rng.normal(0, 0.5, (9, 1)), 0.4, (9, 200))))
    drawn[0, :30] = drawn[1, :150] = np.nan  # a few are undefined, and too many
    values = [
        value(*item[1:], estimate=item[-1], patients=20 + 9 * n) for n, item in enumerate(drawn)
    ]
    values += [value(*np.ones(199), estimate=1.0, trials=n, patients=n) for n in (5, 60)]
    pairs = [contrast(item, other) for item, other in itertools.combinations(values, 2)]
    result, slow = adjust_together(pairs, 0.05), one_by_one(pairs, 0.05)
    assert np.isnan(result.p).any()
    assert (result.p_adjusted < 0.05).any()
    np.testing.assert_allclose(result.p, slow.p, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.p_adjusted, slow.p_adjusted, rtol=0, atol=1e-12)
    assert result.critical == pytest.approx(slow.critical, rel=1e-12)


def one_by_one(pairs, level) -> JointTest:
    """Test differences as `adjust_together` does, each by itself."""
    p, adjusted = np.full((2, len(pairs)), np.nan)
    exact = [place for place, pair in enumerate(pairs) if pair.is_exact(0)]
    observed, statistics = {}, {}
    for place, pair in enumerate(pairs):
        first, second = pair.sides
        values = first.scaled - second.scaled
        defined = values[1:][~np.isnan(values[1:])]
        if place in exact or len(defined) < len(values[1:]) / 2:
            continue
        error, variances = defined.std(ddof=1), np.array([first.variance, second.variance])
        cases = np.array([max(values.cases - 1, 1) for values in (first, second)])
        degrees = variances.sum() ** 2 / (variances**2 / cases).sum()
        observed[place] = norm.isf(student.sf(abs(values[0]) / error, degrees))
        statistics[place] = np.abs(values[1:] - values[0]) / error
    tested, largest, down = len(observed) + len(exact), np.zeros(199), []
    for place in sorted(observed, key=observed.get):
        largest = np.fmax(largest, statistics[place])
        p[place] = (1 + (statistics[place] >= observed[place]).sum()) / (
            1 + (~np.isnan(statistics[place])).sum()
        )
        adjusted[place] = (1 + (largest >= observed[place]).sum()) / 200
        down.append(place)
    adjusted[down[::-1]] = np.maximum.accumulate(adjusted[down[::-1]]) * tested / len(observed)
    p[exact] = [exact_p(pairs[place]) for place in exact]
    adjusted[exact] = holm(p[exact]) * tested / len(exact)
    by_draws = np.quantile(largest, 1 - level * len(observed) / tested)
    critical = max(float(by_draws), float(norm.isf(level / (2 * tested))))
    return JointTest(p, np.minimum(adjusted, 1), critical)


def exact_p(pair) -> float:
    """Return twice the tail at which the interval of a difference begins at 0."""

    def beyond(tail):
        reach = [
            1 - tail ** (1 / side.trials) if side.trials else norm.isf(tail) * side.error
            for side in pair.sides
        ]
        return np.hypot(*reach) - abs(pair.values()[0])

    return min(1.0, 2 * brentq(beyond, 1e-18, 0.5, xtol=1e-20)) if beyond(0.5) < 0 else 1.0


def test_what_is_not_known_takes_no_part():
    rng = np.random.default_rng(0)
    expected, other = (value(*rng.normal(0.7, 0.05, 99), estimate=place) for place in (0.8, 0.7))
    never = value(*np.full(99, 0.7), estimate=0.7)  # neither draws nor trials: no error
    lost = value(*np.full(99, np.nan), estimate=0.6)
    result = adjust_together(
        [contrast(expected, other), contrast(never, never), contrast(lost, expected)], 0.05
    )
    assert np.isnan(result.p).tolist() == [False, True, True]
    assert result.p_adjusted[0] == result.p[0]


P = st.sampled_from([0.01, 0.2, 1.0])


@given(
    st.lists(st.lists(P, min_size=2, max_size=2), min_size=2, max_size=2),
    st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True),
)
def test_a_better_worst_group_needs_every_group_above_some_group_of_the_other(p, values):
    """By going through all pairs of groups."""
    new, old = np.array(values[:2]), np.array(values[2:])
    better = np.sign(new[:, None] - old)
    p = np.array(p)

    def shown(sign, outer):
        return [any(p[pair] <= 0.05 and better[pair] == sign for pair in pairs) for pairs in outer]

    pairs = list(itertools.product(range(2), range(2)))
    rows = [[pair for pair in pairs if pair[0] == g] for g in range(2)]
    columns = [[pair for pair in pairs if pair[1] == g] for g in range(2)]
    expected = all(shown(1, rows)) or all(shown(-1, columns))
    assert (_worst(p.ravel(), better) <= 0.05) == expected
    if expected and all(shown(1, rows)):
        assert new.min() > old.min()


@pytest.mark.parametrize("paired", [False, True])
def test_a_metric_without_an_interval_is_never_claimed(paired):
    """Chance alone raises the calibration error of the smaller of two calibrated groups."""
    rng = np.random.default_rng(0)
    groups = groups_of(np.repeat(["large", "small"], [1500, 60]))
    risk = rng.uniform(0.02, 0.98, 1560)
    labels = (rng.random(1560) < risk).astype(int)
    against = as_scored(labels, np.full(1560, 0.5)) if paired else None
    plan = Plan(("ece",), ("gap", "worst"))
    rows = measure(as_scored(labels, risk), {"g": groups}, plan, rng=rng, against=against)
    assert set(rows["metric"]) >= {"ece", "ece_gap"}
    assert rows["p_adjusted"].isna().all()


def test_the_worst_error_is_the_highest_one():
    """The new model errs less in one group, as often as before in the other: no worst gained."""
    n = 400
    labels, levels = np.tile([0, 1], n), np.repeat(["a", "b"], n)
    wrong = np.random.default_rng(0).random((2, 2 * n))
    before = np.where(wrong[0] < 0.4, 1 - labels, labels)
    after = np.where(wrong[1] < np.where(levels == "a", 0.05, 0.4), 1 - labels, labels)
    table = measure(
        as_scored(labels, after.astype(float)),
        {"g": groups_of(levels)},
        Plan(("error_rate",), ("worst",)),
        rng=np.random.default_rng(1),
        against=as_scored(labels, before.astype(float)),
    )
    p = table.set_index(["attribute", "group", "metric"])["p_adjusted"]
    assert p["g", "a", "error_rate"] < 0.001
    assert p["g", "*", "error_rate_worst"] > 0.2


def test_log_odds_of_few_cases_stay_finite_and_moderate():
    values = np.array([0.9, 1.0, 0.8, 0.9, 1.0, 0.9])
    numbers = side("a", values, 10, share=True)
    assert np.abs(numbers.scaled).max() < np.log(2 * 10 + 1) + 1e-9
