"""Every metric against an outside reference, and as a law."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

import evenhand.metrics.stream
from evenhand.errors import EvenhandError
from evenhand.metrics import METRICS, Scored, as_scored, metric_listing
from evenhand.metrics.estimate import common_classes, estimate, point, why_undefined
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap, resample


def rate(part, whole):
    return np.count_nonzero(part) / np.count_nonzero(whole)


def calibration(d: Scored, free_slope: bool) -> float:
    """Fit by a general optimiser, from scipy."""
    x = np.log(np.clip(d.scores, 1e-7, 1 - 1e-7) / (1 - np.clip(d.scores, 1e-7, 1 - 1e-7)))

    def loss(b):
        line = b[0] + (b[1] if free_slope else 1) * x
        return np.sum(np.logaddexp(0, line) - d.labels * line)

    start = [0.0, 1.0] if free_slope else [0.0]
    result = scipy.optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-9}).x
    return result[1] if free_slope else result[0]


def benefit(d: Scored, threshold: float) -> float:
    flagged = d.scores >= threshold
    return np.mean(flagged * d.labels) - np.mean(flagged * (1 - d.labels)) * threshold / (
        1 - threshold
    )


def at_fixed(d: Scored, wanted: str, least: float = 0.9) -> float:
    cuts = np.append(np.unique(d.scores), np.inf)
    sens = np.array([rate(d.scores[d.labels == 1] >= c, d.labels == 1) for c in cuts])
    spec = np.array([rate(d.scores[d.labels == 0] < c, d.labels == 0) for c in cuts])
    fixed, best = (spec, sens) if wanted == "sensitivity" else (sens, spec)
    return best[fixed >= least - 1e-12].max()


def ece(d: Scored) -> float:
    which = np.digitize(d.scores, np.linspace(0, 1, 11)[1:-1], right=True)
    total = 0.0
    for number in np.unique(which):
        place = which == number
        total += place.mean() * abs(d.labels[place].mean() - d.scores[place].mean())
    return total


def squared_calibration_error(d: Scored) -> float:
    """Every pair of rows of two patients that share a bin, one by one."""
    which = np.digitize(d.scores, np.linspace(0, 1, 11)[1:-1], right=True)
    total = weight = 0.0
    for number in np.unique(which):
        place = np.flatnonzero(which == number)
        apart = d.patients[place][:, None] != d.patients[place]
        if apart.any():
            error = d.labels[place] - d.scores[place]
            total += len(place) * np.outer(error, error)[apart].mean()
            weight += len(place)
    return total / weight if weight else np.nan


def auprg(d: Scored) -> float:
    """Walk the thresholds, and start where recall is the prevalence."""
    pi = d.labels.mean()
    n_pos, n_neg = d.labels.sum(), (1 - d.labels).sum()
    points = [(0.0, 0.0)]
    for cut in np.unique(d.scores)[::-1]:
        flagged = d.scores >= cut
        points.append((d.labels[flagged].sum(), (1 - d.labels[flagged]).sum()))
    area, start = 0.0, pi * n_pos

    def gains(tp, fp):
        recall, precision = tp / n_pos, tp / (tp + fp)
        return ((rate - pi) / ((1 - pi) * rate) for rate in (recall, precision))

    for (tp0, fp0), (tp1, fp1) in itertools.pairwise(points):
        if tp1 <= start or tp1 == tp0:
            continue
        if tp0 < start:
            tp0, fp0 = start, fp0 + (fp1 - fp0) * (start - tp0) / (tp1 - tp0)
        (x0, y0), (x1, y1) = gains(tp0, fp0), gains(tp1, fp1)
        area += (x1 - x0) * (y0 + y1) / 2
    assert n_neg
    return area


BINARY: dict[str, Callable[[Scored], float]] = {
    "auc": lambda d: sk.roc_auc_score(d.labels, d.scores),
    "auprc": lambda d: sk.average_precision_score(d.labels, d.scores),
    "log_loss": lambda d: sk.log_loss(d.labels, d.scores, labels=[0, 1]),
    "brier": lambda d: sk.brier_score_loss(d.labels, d.scores),
    "accuracy": lambda d: sk.accuracy_score(d.labels, d.decisions),
    "error_rate": lambda d: sk.zero_one_loss(d.labels, d.decisions),
    "balanced_accuracy": lambda d: sk.balanced_accuracy_score(d.labels, d.decisions),
    "sensitivity": lambda d: sk.recall_score(d.labels, d.decisions),
    "specificity": lambda d: sk.recall_score(d.labels, d.decisions, pos_label=0),
    "false_negative_rate": lambda d: rate((d.labels > d.decisions), d.labels == 1),
    "false_positive_rate": lambda d: rate((d.labels < d.decisions), d.labels == 0),
    "ppv": lambda d: sk.precision_score(d.labels, d.decisions),
    "npv": lambda d: sk.precision_score(d.labels, d.decisions, pos_label=0),
    "false_discovery_rate": lambda d: rate(d.labels < d.decisions, d.decisions == 1),
    "false_omission_rate": lambda d: rate(d.labels > d.decisions, d.decisions == 0),
    "selection_rate": lambda d: d.decisions.mean(),
    "f1": lambda d: sk.f1_score(d.labels, d.decisions),
    "net_benefit": lambda d: (
        np.mean(d.labels * d.decisions) - np.mean((1 - d.labels) * d.decisions) * 0.4 / 0.6
    ),
    "prevalence": lambda d: d.labels.mean(),
    "ece": ece,
    "calibration_slope": lambda d: calibration(d, True),
    "calibration_intercept": lambda d: calibration(d, False),
    "sensitivity_at_specificity": lambda d: at_fixed(d, "sensitivity"),
    "specificity_at_sensitivity": lambda d: at_fixed(d, "specificity"),
    "sensitivity_at_specificity[.75]": lambda d: at_fixed(d, "sensitivity", 0.75),
    "specificity_at_sensitivity[0.5]": lambda d: at_fixed(d, "specificity", 0.5),
    "net_benefit_at": lambda d: benefit(d, 0.1),
    "squared_calibration_error": squared_calibration_error,
    "mcc": lambda d: sk.matthews_corrcoef(d.labels, d.decisions),
    "brier_skill": lambda d: (
        1
        - sk.brier_score_loss(d.labels, d.scores)
        / sk.brier_score_loss(d.labels, np.full(len(d), d.labels.mean()))
    ),
    "auprg": auprg,
    # Of the rows that they are given; which rows those are, test_views.py tells.
    "bpsn_auc": lambda d: sk.roc_auc_score(d.labels, d.scores),
    "bnsp_auc": lambda d: sk.roc_auc_score(d.labels, d.scores),
    "sensitivity_at_shared_fpr": lambda d: at_fixed(d, "sensitivity"),
    "net_benefit_at[0.4]": lambda d: benefit(d, 0.4),
}
MANY: dict[str, Callable[[Scored], float]] = {
    "auc": lambda d: sk.roc_auc_score(d.labels, d.scores, multi_class="ovr"),
    "auprc": lambda d: sk.average_precision_score(d.labels, d.scores),
    "log_loss": lambda d: sk.log_loss(d.labels, d.scores),
    "brier": lambda d: sk.brier_score_loss(d.labels, d.scores),
    "accuracy": lambda d: sk.accuracy_score(d.labels, d.decisions),
    "sensitivity": lambda d: sk.recall_score(d.labels, d.decisions, average="macro"),
    "ppv": lambda d: sk.precision_score(d.labels, d.decisions, average="macro"),
    "f1": lambda d: sk.f1_score(d.labels, d.decisions, average="macro"),
    "balanced_accuracy": lambda d: sk.balanced_accuracy_score(d.labels, d.decisions),
    "mcc": lambda d: sk.matthews_corrcoef(d.labels, d.decisions),
    "brier_skill": lambda d: (
        1
        - sk.brier_score_loss(d.labels, d.scores)
        / sk.brier_score_loss(d.labels, np.tile(np.bincount(d.labels) / len(d), (len(d), 1)))
    ),
}


@st.composite
def samples(draw, n_classes=2):
    """Scored samples with ties, several to a patient, of every class and decision."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(30, 200))
    labels = np.append(np.arange(n_classes), rng.integers(n_classes, size=n - n_classes))
    digits = draw(st.sampled_from([1, 2, 16]))
    if n_classes == 2:
        scores = np.round(np.clip(rng.random(n) * 0.8 + 0.2 * labels * rng.random(n), 0, 1), digits)
    else:
        scores = rng.dirichlet(np.ones(n_classes), size=n)
        scores[np.arange(n_classes), np.arange(n_classes)] += 1  # each class is decided once
        scores /= scores.sum(axis=1, keepdims=True)
    patients = rng.integers(max(1, n // draw(st.integers(1, 4))), size=n)
    return as_scored(labels, scores, patients=patients, threshold=0.4)


def tolerance(name):
    return 1e-6 if name.startswith("calibration") else 1e-12


def test_log_loss_takes_rounded_scores_of_many_classes_relative_to_their_sum():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(3, size=50), rng.dirichlet(np.ones(3), size=50)
    metric = find_metric("log_loss")
    lower, whole = (point(as_scored(labels, s), metric, (0, 1, 2)) for s in (scores * 0.99, scores))
    assert lower == pytest.approx(whole, rel=1e-12)


def test_every_metric_has_a_reference():
    assert {name for name in BINARY if "[" not in name} == set(METRICS)


@pytest.mark.parametrize("name", BINARY)
@given(rows=samples())
@settings(max_examples=40)
def test_two_classes_agree_with_the_reference(name, rows):
    if why_undefined(rows, find_metric(name), (0, 1)):
        assert np.isnan(point(rows, find_metric(name), (0, 1)))
        return
    expected = BINARY[name](rows)
    assert point(rows, find_metric(name), (0, 1)) == pytest.approx(
        expected, rel=tolerance(name), abs=tolerance(name)
    )


@pytest.mark.parametrize("name", MANY)
@given(rows=samples(n_classes=4))
@settings(max_examples=20)
def test_many_classes_agree_with_scikit_learn(name, rows):
    value = point(rows, find_metric(name), common_classes([rows]))
    assert value == pytest.approx(MANY[name](rows), rel=1e-12)


@pytest.mark.parametrize("name", sorted(METRICS))
@given(rows=samples(), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_a_resample_is_the_metric_of_its_rows(name, rows, seed):
    """The weighted form gives what the plain one gives on rows that are written out."""
    metric = find_metric(name)
    resamples = resample(len(rows.members), Bootstrap(5), np.random.default_rng(seed))
    values = estimate([rows], [metric], resamples, (0, 1))[0, 0]
    for drawn, value in zip(resamples.weights, values, strict=True):
        written_out = rows.take(np.repeat(np.arange(len(rows)), drawn[rows.patients]))
        expected = point(written_out, metric, (0, 1))
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", sorted(METRICS))
@given(rows=samples(), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_the_order_of_rows_changes_nothing(name, rows, seed):
    metric = find_metric(name)
    order = np.random.default_rng(seed).permutation(len(rows))
    resamples = resample(len(rows.members), Bootstrap(5), np.random.default_rng(seed))
    first, second = (estimate([d], [metric], resamples, (0, 1)) for d in (rows, rows.take(order)))
    np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-14)


@given(rows=samples(), size=st.integers(1, 2000))
@settings(max_examples=20)
def test_how_resamples_are_split_into_batches_changes_nothing(rows, size):
    metrics = [METRICS[name] for name in sorted(METRICS)]
    resamples = resample(len(rows.members), Bootstrap(20), np.random.default_rng(0))
    whole = estimate([rows], metrics, resamples, (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evenhand.metrics.stream, "CELLS", size)
        patch.setattr(evenhand.metrics.stream, "WEIGHTS", size)
        split = estimate([rows], metrics, resamples, (0, 1))
    np.testing.assert_allclose(whole, split, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(METRICS))
@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
@pytest.mark.parametrize("score", [0.1, 0.9])
def test_undefined_has_a_reason_and_no_value(name, labels, score):
    rows = as_scored(labels, np.full(len(labels), score), threshold=0.5)
    metric = find_metric(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = point(rows, metric, (0, 1))
    assert np.isnan(value) == (why_undefined(rows, metric, (0, 1)) is not None)


@pytest.mark.parametrize(
    ("labels", "defined"),
    [
        ([0, 0, 1, 1], False),  # separated
        ([1, 1, 0, 0], False),  # separated the wrong way round
        ([0, 1, 0, 1], True),
        ([1, 0, 0, 1], True),
    ],
)
def test_separated_classes_have_no_calibration_slope(labels, defined):
    metric = find_metric("calibration_slope")
    for scores in ([0.1, 0.2, 0.8, 0.9], [0.946, 0.9461, 0.9462, 0.99]):
        value = point(as_scored(labels, scores), metric, (0, 1))
        assert np.isfinite(value) == defined
    tied = point(as_scored([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9]), metric, (0, 1))
    assert np.isnan(tied)


def test_wild_scores_are_fitted():
    scores = np.append(np.full(40, 1e-7), [0.5 + 1e-3, 0.5 - 1e-3] * 20)
    labels = np.append([1] + [0] * 39, [1, 0] * 20)
    rows = as_scored(labels, scores)
    result = point(rows, find_metric("calibration_slope"), (0, 1))
    assert result == pytest.approx(calibration(rows, free_slope=True), rel=1e-6)


def test_an_infinite_value_is_undefined():
    rows = as_scored([0, 1], [1.0, 0.2], threshold=1.0)  # the odds of the threshold are infinite
    assert np.isnan(point(rows, find_metric("net_benefit"), (0, 1)))


@pytest.mark.parametrize("name", sorted(METRICS))
def test_each_says_what_it_is(name):
    metric = METRICS[name]
    assert metric.title.endswith(".")
    assert metric.source
    assert (metric.ideal is None) <= (metric.direction in ("none", "higher"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("auc[0.5]", "auc takes no number in brackets"),
        ("net_benefit_at[1]", "write a number between 0 and 1"),
        ("net_benefit_at[x]", "write a number between 0 and 1"),
        ("net_benefit_at[0.2", "write a number between 0 and 1"),
        ("net_benefits[0.2]", "no metric 'net_benefits'"),
    ],
)
def test_a_metric_at_no_number(name, says):
    with pytest.raises(EvenhandError, match=says):
        find_metric(name)


def test_a_metric_at_another_number_says_so():
    assert "specificity of at least 0.95" in find_metric("sensitivity_at_specificity[.95]").title
    assert "specificity of at least 0.9 " in find_metric("sensitivity_at_specificity").title


def test_chance_has_no_precision_gain_at_any_prevalence():
    """Where AUPRC follows the prevalence."""
    rng = np.random.default_rng(0)
    for prevalence in (0.2, 0.5, 0.8):
        rows = as_scored((rng.random(40_000) < prevalence).astype(int), rng.random(40_000))
        assert point(rows, find_metric("auprg"), (0, 1)) == pytest.approx(0, abs=0.05)
        assert point(rows, find_metric("auprc"), (0, 1)) == pytest.approx(prevalence, abs=0.02)


def test_what_misleads_says_when():
    new = ("mcc", "brier_skill", "auprg", "bpsn_auc", "bnsp_auc", "sensitivity_at_shared_fpr")
    listing = metric_listing()
    for name in (*new, "ece", "squared_calibration_error", "balanced_accuracy"):
        assert METRICS[name].caution.startswith("Misleads")
        assert METRICS[name].caution.split(":")[0] in " ".join(listing.split())
