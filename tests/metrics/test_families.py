"""How far the intervals of values reach, by their formulas, and which of them say "approximate"."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import t as student

from evenhand.metrics import Bootstrap, Plan, as_scored, find_metric, groups_of, measure
from evenhand.metrics.families import LONGEST, distances, metric_family, t_quantile
from evenhand.metrics.resample import resample


def family_of(metric, values, labels):
    groups = {f"g{g}": as_scored(labels, np.full(len(labels), 0.5)) for g in range(len(values))}
    resamples = resample(len(labels), Bootstrap(values.shape[1] - 1), np.random.default_rng(0))
    return metric_family(groups, find_metric(metric), values, resamples, (0, 1))


def test_a_share_is_on_the_logit_scale_with_as_many_patients_as_the_rarer_kind():
    drawn = np.random.default_rng(0).normal(0.9, 0.02, size=(1, 400))
    family = family_of("auc", np.concatenate([[[0.9]], drawn], axis=1), [1] * 12 + [0] * 30)
    error = student.isf(0.025, 11) * drawn.std(ddof=1) / (0.9 * 0.1)
    below, above = family.margins(0.025)
    assert 0.9 - below[0] == pytest.approx(expit(logit(0.9) - error))
    assert 0.9 + above[0] == pytest.approx(expit(logit(0.9) + error))
    assert family.fewest == 12


def test_a_mean_is_freed_of_its_skewness():
    """The inverse of Hall's g(t) = t + s t² / 3 + s² t³ / 27 + s / 6, up to twice as far as t."""
    t, skew, item = np.array([2.1]), np.array([0.3]), np.ones(1)
    below, above = distances(item, item, skew, t, "mean")
    for reached, request in ((below[0], t[0]), (-above[0], -t[0])):
        s = skew[0]
        back = reached + s * reached**2 / 3 + s**2 * reached**3 / 27 + s / 6
        assert back == pytest.approx(request)
    assert above > t > below
    assert distances(item, item, 0 * skew, t, "mean") == (t, t)
    far = distances(item, item, np.array([0.6]), t, "mean")[1]
    assert far == pytest.approx(LONGEST * t)


def test_a_coefficient_is_not_moved_by_resamples_that_are_far_out():
    drawn = np.random.default_rng(0).normal(1, 0.2, size=(1, 999))
    wild = np.where(np.arange(999) % 50 == 0, 40.0, drawn)
    labels = [1] * 50 + [0] * 50
    plain, far = (
        family_of("calibration_slope", np.concatenate([[[1.0]], d], axis=1), labels).margins(0.025)[
            0
        ]
        for d in (drawn, wild)
    )
    assert far[0] == pytest.approx(plain[0], rel=0.05)


@settings(max_examples=60)
@given(
    st.floats(0.001, 0.999), st.floats(1e-6, 0.4), st.floats(-3, 3), st.integers(2, 10**6),
    st.sampled_from(["share", "mean", "coefficient"]), st.floats(1e-5, 0.4),
)  # fmt: skip
def test_reaches_are_positive_and_grow_with_what_is_asked(
    value, error, skew, patients, scale, tail
):
    arrays = [np.array([x]) for x in (value, error, skew)]
    quantile = t_quantile(tail, np.array([patients]))
    below, above = distances(*arrays, quantile, scale)
    wider = distances(*arrays, t_quantile(tail / 2, np.array([patients])), scale)
    assert wider[0] >= below
    assert wider[1] >= above
    if scale == "share":
        assert 0 <= value - below <= value <= value + above <= 1
    else:
        assert (below + above)[0] > 0


def test_with_many_patients_all_methods_agree():
    rng = np.random.default_rng(0)
    labels = (rng.random(4000) < 0.3).astype(int)
    rows = as_scored(labels, expit(2 * labels - 1 + rng.normal(size=4000)))
    groups = {"x": groups_of(rng.choice(["a", "b"], size=4000))}
    metrics = ("auc", "sensitivity", "log_loss", "calibration_slope")
    ends = []
    for method in ("auto", "percentile", "bca"):
        plan = Plan(metrics, ("difference",), bootstrap=Bootstrap(2000, method=method))
        table = measure(rows, groups, plan, rng=np.random.default_rng(1))
        ends.append(table[["low", "high"]].to_numpy())
        assert table["approximate"].isna().all()
    width = np.diff(ends[0], axis=1)
    for other in ends[1:]:
        assert (np.abs(ends[0] - other) < 0.1 * width).all()


def test_groups_that_share_their_patients_are_told_apart_better():
    """Two images of each patient, in two groups; then the same images of twice the patients."""
    rng = np.random.default_rng(0)
    label = np.repeat(rng.integers(2, size=100), 2)
    alike = np.repeat(rng.normal(size=100), 2) + 0.2 * rng.normal(size=200)
    score = expit(2 * label - 1 + alike)
    groups = {"eye": groups_of(np.tile(["left", "right"], 100))}
    widths = []
    for patients in (np.arange(200) // 2, np.arange(200)):
        rows = as_scored(label, score, patients=patients)
        table = measure(rows, groups, Plan(("auc",), ("difference", "gap")), rng=rng)
        row = table.set_index("metric").loc["auc_difference"]
        widths.append(row["high"] - row["low"])
    assert widths[0] < 0.6 * widths[1]


@pytest.mark.parametrize(
    ("positives", "few", "few_apart"), [(9, True, True), (10, False, True), (20, False, False)]
)
def test_a_row_that_rests_on_few_patients_says_so(positives, few, few_apart):
    rng = np.random.default_rng(3)
    labels = np.tile([1] * positives + [0] * 30, 2)
    rows = as_scored(labels, expit(labels + rng.normal(size=len(labels))))
    groups = {"x": groups_of(np.repeat(["a", "b"], positives + 30))}
    across = ("difference", "gap", "worst", "ratio")
    table = measure(rows, groups, Plan(("auc", "brier"), across), rng=rng)
    table = table[table["attribute"] == "x"].set_index(["metric", "group"])["approximate"]
    for name, approximate in (
        ("auc", few),
        *((f"auc_{across}", few_apart) for across in ("difference", "gap", "worst")),
    ):
        expected = f"{positives} patients" if approximate else ""
        assert set(table[name].fillna("")) == {expected}, name
    for name in ("brier", "brier_gap"):
        assert table[name].fillna("").iloc[0] == (f"{positives + 30} patients" if few else "")
    assert table["auc_ratio"].iloc[0] == f"{positives} patients"
    assert table["brier_ratio"].iloc[0] == f"{positives + 30} patients"


def test_two_models_are_compared_in_a_mean_on_few_patients_with_a_mark():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 35)
    first, two = (as_scored(labels, expit(labels + rng.normal(size=70))) for _ in range(2))
    table = measure(first, {}, Plan(("log_loss", "auc"), ()), rng=rng, against=two)
    rows = table.set_index("metric")
    assert (rows["interval_method"] == "t").all()
    assert rows["approximate"].fillna("").to_dict() == {"log_loss": "70 patients", "auc": ""}
