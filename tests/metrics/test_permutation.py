from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import false_discovery_control, norm

from evenhand.errors import EvenhandError
from evenhand.metrics import Plan, as_scored, groups_of, holm, measure, permutation_test
from evenhand.metrics.estimate import estimate
from evenhand.metrics.influence import influences, moments
from evenhand.metrics.permutation import _statistics
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap, resample


def cohort(rng, sizes, prevalence, separation=1.0, images=3, like=0.7):
    """Patients with several images each that are alike; positives score higher."""
    patient = np.repeat(np.arange(sum(sizes)), images)
    group = np.repeat(np.arange(len(sizes)), sizes)[patient]
    share = np.broadcast_to(prevalence, len(sizes))[group]
    labels = (rng.random(len(patient)) < share).astype(int)
    common = rng.normal(size=sum(sizes))[patient]
    noise = np.sqrt(like) * common + np.sqrt(1 - like) * rng.normal(size=len(patient))
    apart = np.broadcast_to(separation, len(sizes))[group]
    rows = as_scored(labels, norm.cdf(apart * (labels - 0.5) + noise), patients=patient)
    return rows, [rows.take(np.flatnonzero(group == g)) for g in range(len(sizes))]


def test_variance_of_the_auc_is_delongs_for_single_rows():
    rng = np.random.default_rng(0)
    rows = as_scored(rng.integers(2, size=80), rng.random(80).round(1))
    up, down = rows.scores[rows.labels == 1], rows.scores[rows.labels == 0]
    order = (up[:, None] > down) + 0.5 * (up[:, None] == down)
    value, variance = moments(find_metric("auc"), rows, (0, 1))(np.ones((1, 80), dtype=np.uint8))
    assert value[0] == pytest.approx(order.mean(), rel=1e-12)
    delong = np.var(order.mean(axis=1)) / len(up) + np.var(order.mean(axis=0)) / len(down)
    assert variance[0] == pytest.approx(delong * 80 / 79, rel=1e-12)


def test_a_dealing_that_is_as_extreme_as_the_data_counts():
    """Four patients: whatever the groups are called, one dealing in three is this one."""
    rows = as_scored([1, 1, 1, 1], [0.9, 0.8, 0.2, 0.1])
    groups = {"a": rows.take(np.arange(2)), "b": rows.take(np.arange(2, 4))}
    result = permutation_test(groups, find_metric("brier"), 3000, np.random.default_rng(0))
    assert result.p == pytest.approx(1 / 3, abs=0.03)


def test_variance_of_a_share_is_the_binomials_for_single_rows():
    rows = as_scored([1] * 40 + [0] * 60, [0.9] * 30 + [0.1] * 70)
    value, variance = moments(find_metric("sensitivity"), rows, (0, 1))(
        np.ones((1, 100), dtype=np.uint8)
    )
    assert value[0] == 0.75
    assert variance[0] == pytest.approx(0.75 * 0.25 / 40 * 100 / 99, rel=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        *("auc", "auprc", "calibration_slope", "calibration_intercept", "net_benefit_at[0.3]"),
        *("sensitivity", "ppv", "f1", "balanced_accuracy", "log_loss", "net_benefit"),
    ],
)
def test_variance_is_that_of_the_patient_bootstrap(name):
    rows, _ = cohort(np.random.default_rng(1), [300], 0.4)
    metric = find_metric(name)
    resamples = resample(300, Bootstrap(2000), np.random.default_rng(2))
    values = estimate([rows], [metric], resamples, (0, 1))[0, 0, 1:]
    _, variance = moments(metric, rows, (0, 1))(np.ones((1, 300), dtype=np.uint8))
    assert np.sqrt(variance[0]) == pytest.approx(values.std(), rel=0.06)


@pytest.mark.parametrize("name", ["auc", "sensitivity", "ppv", "accuracy", "brier"])
def test_variance_of_a_mean_over_classes_is_that_of_the_patient_bootstrap(name):
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(300), 3)
    labels = rng.integers(4, size=300)[patients]
    scores = rng.dirichlet(np.ones(4), 900) + 0.5 * np.eye(4)[labels]
    rows = as_scored(labels, scores / scores.sum(axis=1, keepdims=True), patients=patients)
    metric, classes = find_metric(name), (0, 1, 3)
    resamples = resample(300, Bootstrap(1000), rng)
    values = estimate([rows], [metric], resamples, classes)[0, 0]
    result, variance = moments(metric, rows, classes)(np.ones((1, 300), dtype=np.uint8))
    assert result[0] == pytest.approx(values[0], rel=1e-12)
    assert np.sqrt(variance[0]) == pytest.approx(values[1:].std(), rel=0.08)


def test_many_classes_are_tested_over_those_that_all_groups_have():
    rng = np.random.default_rng(0)
    labels = np.append(rng.integers(3, size=150), rng.integers(2, size=90))
    group = np.repeat(["a", "b"], [150, 90])
    good = np.where(group == "a", 2.0, 0.1)[:, None]
    scores = rng.dirichlet(np.ones(3), 240) + good * np.eye(3)[labels]
    rows = as_scored(labels, scores / scores.sum(axis=1, keepdims=True))
    parts = {name: rows.take(np.flatnonzero(group == name)) for name in ("a", "b")}
    test = permutation_test(parts, find_metric("auc"), 99, rng)
    assert test.p == 0.01
    assert test.reason is None


@given(st.integers(0, 2**32 - 1), st.integers(4, 20), st.booleans())
def test_influences_are_derivatives_by_the_weight_of_a_patient(seed, patients, tied):
    rng = np.random.default_rng(seed)
    owner = np.append(np.arange(patients), rng.integers(patients, size=8))
    labels = rng.integers(2, size=len(owner))
    score = rng.uniform(0.05, 0.95, size=len(owner)).round(1 if tied else 6)
    weights = rng.integers(1, 4, size=(1, patients)).astype(float)
    step = 1e-5
    for name in ("auc", "auprc", "calibration_slope", "calibration_intercept", "f1"):
        values = influences(find_metric(name), as_scored(labels, score, patients=owner))
        value, influence = values(weights)
        if np.isnan(value[0]) or abs(value[0]) > 20:  # a fit near separation bends too much
            continue
        moved = weights + step * np.eye(patients)
        less = weights - step * np.eye(patients)
        slope = (values(moved)[0] - values(less)[0]) / (2 * step)
        assert influence[0] == pytest.approx(slope, rel=1e-3, abs=1e-5), name
        assert (weights * influence).sum() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ece", "chance raises distances in bins, and more so in smaller groups"),
        ("sensitivity_at_specificity[0.95]", "the density of the scores at the threshold"),
    ],
)
def test_metrics_whose_level_cannot_be_kept_are_refused_with_the_reason(name, why):
    _, parts = cohort(np.random.default_rng(1), [40, 40], 0.5)
    test = permutation_test(named(parts), find_metric(name), 9, np.random.default_rng(0))
    assert test.p is None
    assert test.reason.startswith("no test: ")
    assert why in test.reason


def named(parts):
    return {f"g{number}": part for number, part in enumerate(parts)}


def rejections(metric, times, seed, **design):
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(times):
        _, parts = cohort(rng, **design)
        result.append(permutation_test(named(parts), find_metric(metric), 199, rng).p)
    return np.mean(np.array(result) <= 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auc", "sensitivity", "specificity"])
@pytest.mark.parametrize("sizes", [[150, 60], [100, 60, 60]])
def test_unequal_prevalence_alone_does_not_reject(metric, sizes):
    prevalence = np.linspace(0.5, 0.2, len(sizes))
    share = rejections(metric, 600, seed=3, sizes=sizes, prevalence=prevalence)
    assert 0.025 <= share <= 0.08


def prevalence_apart(rng, name):
    """Groups whose prevalence is .5 and .2 or so, and whose AUPRC or calibration is the same."""
    patient = np.repeat(np.arange(420), rng.integers(1, 4, size=420))
    group = np.repeat([0, 1], [300, 120])
    if name == "auprc":  # the truth is .854 in both groups
        labels = (rng.random(420) < np.array([0.5, 0.2])[group]).astype(int)
        noise = np.sqrt(0.6) * rng.normal(size=420)[patient]
        noise += np.sqrt(0.4) * rng.normal(size=len(patient))
        apart = np.array([1.5, 2.304666])[group] * labels
        scores = norm.cdf(apart[patient] - 1 + noise)
    else:
        logit = rng.normal(np.array([0, -1.2])[group])
        labels = (rng.random(420) < expit(logit)).astype(int)
        scores = expit(logit)[patient]
    rows = as_scored(labels[patient], scores, patients=patient)
    return [rows.take(np.flatnonzero(group[patient] == g)) for g in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auprc", "calibration_slope", "calibration_intercept"])
def test_unequal_prevalence_alone_does_not_reject_what_curves_and_fits_say(metric):
    rng = np.random.default_rng(8)
    p = [
        permutation_test(named(prevalence_apart(rng, metric)), find_metric(metric), 199, rng).p
        for _ in range(200)
    ]
    assert 0.015 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_a_real_difference_is_found():
    design = {"sizes": [150, 100], "prevalence": 0.4}
    assert rejections("auc", 30, seed=4, separation=np.array([2.0, 0.7]), **design) > 0.8
    assert rejections("auc", 60, seed=5, separation=1.0, **design) < 0.15


def test_two_groups_are_compared_by_their_studentised_difference():
    rows, parts = cohort(np.random.default_rng(6), [60, 30], [0.5, 0.2])
    values = moments(find_metric("auc"), rows, (0, 1))
    member = np.repeat([0, 1], [60, 30])
    result = [values((member == group)[None].astype(np.uint8)) for group in (0, 1)]
    (first, v1), (second, v2) = ((value[0], variance[0]) for value, variance in result)
    assert _statistics(values, member[None], 2)[0] == pytest.approx(
        (first - second) ** 2 / (v1 + v2)
    )
    alone = [moments(find_metric("auc"), part, (0, 1)) for part in parts]
    everybody = [np.ones((1, len(part.members)), dtype=np.uint8) for part in parts]
    apart = [of_part(weights) for of_part, weights in zip(alone, everybody, strict=True)]
    assert (first, v1) == pytest.approx((apart[0][0][0], apart[0][1][0]))
    assert (second, v2) == pytest.approx((apart[1][0][0], apart[1][1][0]))


def test_patients_who_are_in_two_groups_are_refused():
    rows, _ = cohort(np.random.default_rng(0), [20], 0.5)
    parts = {"first": rows.take(np.arange(30)), "second": rows.take(np.arange(28, 60))}
    test = permutation_test(parts, find_metric("accuracy"), 9, np.random.default_rng(0))
    assert test.p is None
    assert "1 patient in more than one group" in test.reason


def test_an_undefined_group_is_not_tested():
    rows = as_scored([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3])
    parts = {"a": rows.take(np.arange(2)), "b": rows.take(np.arange(2, 4))}
    test = permutation_test(parts, find_metric("auc"), 9, np.random.default_rng(0))
    assert test.reason == "no test: undefined in 'b'"


def test_undefined_permutations_are_counted():
    rng = np.random.default_rng(0)
    labels = np.array([1, 0] * 2 + [1, 0] + [0] * 14)
    rows = as_scored(labels, rng.random(20))
    parts = {"a": rows.take(np.arange(4)), "b": rows.take(np.arange(4, 20))}
    test = permutation_test(parts, find_metric("auc"), 199, rng)
    assert 0 < test.undefined < 199
    assert 0 < test.p <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_by_its_definition(p):
    adjusted = holm(p)
    for place, value in enumerate(p):
        smaller = sorted(p)
        steps = [min(1, (len(p) - i) * smaller[i]) for i in range(smaller.index(value) + 1)]
        ties = [min(1, (len(p) - i) * value) for i in range(len(p)) if smaller[i] == value]
        assert adjusted[place] >= max(steps) - 1e-15
        assert adjusted[place] <= max([*steps, *ties]) + 1e-15
    assert (adjusted >= false_discovery_control(p, method="bh") - 1e-12).all()


def test_holm_leaves_out_what_was_not_tested():
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])


def test_p_values_beside_the_gaps():
    rng = np.random.default_rng(0)
    rows, parts = cohort(rng, [120, 80], 0.4, separation=np.array([2.5, 0.3]))
    names = np.repeat(["a", "b"], [len(part) for part in parts])
    halves = np.where(np.arange(len(rows)) % 3 == 0, "x", "y")  # differs within patients
    plan = Plan(("auc", "ece"), ("gap",), bootstrap=None, permutations=99)
    groups = {"site": groups_of(names), "half": groups_of(halves)}
    table = measure(rows, groups, plan, rng=rng)
    site = table[(table["attribute"] == "site") & (table["metric"] == "auc_gap")].iloc[0]
    assert site["p"] == 0.01
    assert site["p_adjusted"] == 0.01
    assert site["p_method"] == "99 permutations of patients, Holm over 1"
    half = table[(table["attribute"] == "half") & (table["metric"] == "auc_gap")].iloc[0]
    assert np.isnan(half["p"])
    assert "200 patients in more than one group" in half["note"]
    assert table[table["metric"] == "auc"]["p"].isna().all()
    both = Plan(("auc", "accuracy"), ("gap",), bootstrap=None, permutations=99)
    table = measure(rows, {"site": groups_of(names)}, both, rng=rng).dropna(subset=["p"])
    assert table["p_method"].str.endswith("Holm over 2").all()
    np.testing.assert_array_equal(table["p_adjusted"], holm(table["p"]))
    with pytest.raises(EvenhandError, match="'gap' is not among the comparisons"):
        measure(rows, {}, Plan(across=(), permutations=9), rng=rng)


def test_a_metric_that_the_data_leave_undefined_has_no_p_value():
    """Scores that tell the classes apart perfectly in one group have no calibration slope."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=80)
    scores = np.where(np.arange(80) < 40, 0.25 + 0.5 * labels, rng.uniform(0.1, 0.9, size=80))
    groups = {"x": groups_of(np.repeat(["a", "b"], 40))}
    plan = Plan(("calibration_slope",), ("gap",), bootstrap=Bootstrap(9), permutations=50)
    table = measure(as_scored(labels, scores), groups, plan, rng=rng)
    (gap,) = table[table["metric"] == "calibration_slope_gap"].to_dict("records")
    assert np.isnan(gap["value"])
    assert np.isnan(gap["p"])
    assert gap["note"] == "no test: undefined in the data"
