"""The debiased squared calibration error against its formula, and its intervals on cohorts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from evenhand.metrics import Bootstrap, Plan, as_scored, find_metric, measure
from evenhand.metrics.estimate import point

ERROR = find_metric("squared_calibration_error")
LEVELS = np.array([0.05, 0.15, 0.35, 0.65, 0.85])
"""One probability in a bin, so that the truth is known without a sum over scores."""


def test_with_one_row_for_each_patient_it_is_kumars():
    """Σ share (ȳ − p)² − ȳ (1 − ȳ) / (n − 1) over the bins (Kumar, Liang & Ma 2019)."""
    rng = np.random.default_rng(0)
    scores = rng.choice(LEVELS, size=500)
    labels = (rng.random(500) < scores**1.3).astype(int)
    expected = 0.0
    for level in LEVELS:
        values = labels[scores == level]
        bias = values.mean() * (1 - values.mean()) / (len(values) - 1)
        expected += len(values) / 500 * ((values.mean() - level) ** 2 - bias)
    assert point(as_scored(labels, scores), ERROR, (0, 1)) == pytest.approx(expected, rel=1e-12)


def cohort(patients, wrong, rng):
    """Return rows of calibrated (wrong 0) or of off probabilities, one to three to a patient."""
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, size=patients))
    shown = rng.choice(LEVELS, size=patients)
    true = expit(np.log(shown / (1 - shown)) - wrong)
    label = rng.random(patients) < true
    return as_scored(label[patient], shown[patient], patients=patient), np.mean(apart(wrong) ** 2)


def apart(wrong):
    """Return how far the truth is from each probability."""
    return expit(np.log(LEVELS / (1 - LEVELS)) - wrong) - LEVELS


@pytest.mark.parametrize("wrong", [0.0, 0.8])
def test_it_is_right_on_the_average_where_ece_is_not(wrong):
    rng = np.random.default_rng(1)
    errors, plain = [], []
    for _ in range(600):
        rows, truth = cohort(40, wrong, rng)
        errors.append(point(rows, ERROR, (0, 1)))
        plain.append(point(rows, find_metric("ece"), (0, 1)))
    error = np.std(errors) / np.sqrt(len(errors))
    assert np.mean(errors) == pytest.approx(truth, abs=4 * error)
    assert np.mean(plain) > np.abs(apart(wrong)).mean() + 0.02


def coverage(patients, wrong, cohorts, seed=2):
    rng = np.random.default_rng(seed)
    plan = Plan(("squared_calibration_error",), (), bootstrap=Bootstrap(500))
    held = []
    for _ in range(cohorts):
        rows, truth = cohort(patients, wrong, rng)
        (row,) = measure(rows, {}, plan, rng=rng).to_dict("records")
        held.append(row["low"] <= truth <= row["high"])
    return np.mean(held)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("patients", [40, 80, 160, 640])
def test_intervals_hold(patients, wrong):
    """Of 300 cohorts 93 to 99 % but for chance: two standard errors of the simulation."""
    share = coverage(patients, wrong, 300)
    print(f"{patients} patients, off by {wrong} logits: {share:.3f}")
    assert share >= 0.93 - 0.03


def test_a_few_cohorts_hold():
    assert coverage(80, 0.0, 25) >= 0.85


def test_plain_ece_has_no_interval_and_says_why():
    rng = np.random.default_rng(0)
    rows, _ = cohort(80, 0.0, rng)
    (row,) = measure(rows, {}, Plan(("ece",), ()), rng=rng).to_dict("records")
    assert row["value"] > 0
    assert np.isnan(row["low"])
    assert row["no_interval"].startswith("chance alone moves bins off the diagonal")
    (less,) = measure(rows, {}, Plan(("ece",), ()), rng=rng, against=rows).to_dict("records")
    assert np.isnan(less["low"])
