"""The test of equal rates: its level by patient, and what it agrees with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, norm, t

from evenhand.metrics import holm
from evenhand.metrics.rates import equal_rates_p


def test_with_one_row_for_each_patient_it_is_the_chi_squared_test():
    rng = np.random.default_rng(0)
    outcome = rng.random(40_000) < np.repeat([0.10, 0.104], 20_000)
    first = np.arange(40_000) < 20_000
    table = [[outcome[values].sum(), (~outcome[values]).sum()] for values in (first, ~first)]
    wanted = chi2_contingency(table, correction=False).pvalue
    assert equal_rates_p(outcome, first, ~first, np.arange(40_000)) == pytest.approx(
        wanted, rel=0.01
    )


def test_a_group_without_an_outcome_is_not_sure_of_it():
    outcome = np.repeat([False, True, False], [20, 30, 170])
    first = np.arange(220) < 20
    error = np.sqrt(30 / 220 * 190 / 220 * (1 / 20 + 1 / 200))
    p = equal_rates_p(outcome, first, ~first, np.arange(220))
    assert p > 2 * norm.sf(0.15 / error)  # of normal tails, with the error of equal rates
    assert p > 0.05


def test_outcomes_that_all_have_or_none_differ_in_nothing():
    first = np.arange(10) < 5
    for outcome in (np.zeros(10, bool), np.ones(10, bool)):
        assert equal_rates_p(outcome, first, ~first, np.arange(10)) == 1
    assert np.isnan(equal_rates_p(first, np.zeros(10, bool), first, np.arange(10)))


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("patients", [60, 600])
def test_the_same_rate_in_five_attributes_is_seldom_claimed_to_differ(patients, rows):
    """Rows of one patient are alike; of 400 reports at most 31 claim anything."""
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(patients), rows)
    claims = 0
    for _ in range(400):
        outcome = (rng.random(patients) < 0.15)[patient]
        firsts = [(rng.random(patients) < share)[patient] for share in (0.5, 0.4, 0.3, 0.2, 0.1)]
        p = holm([equal_rates_p(outcome, first, ~first, patient) for first in firsts])
        claims += bool((p < 0.05).any())
    assert claims <= 31


def test_twice_the_rate_is_seen():
    rng = np.random.default_rng(4)
    first = np.arange(1000) < 400
    outcome = rng.random((100, 1000)) < np.where(first, 0.10, 0.20)
    p = [equal_rates_p(item, first, ~first, np.arange(1000)) for item in outcome]
    assert np.mean(np.array(p) < 0.05) > 0.9


def test_degrees_of_freedom_are_the_patients_of_the_smaller_group_less_one():
    outcome = np.array([1, 1, 0, 0, 0, 1, 0, 0], bool)
    group = np.arange(8) < 3
    # each patient's residual, 5/8 or -3/8, over the rows of its group
    by_patient = (2 * (5 / 8) ** 2 + (3 / 8) ** 2) / 9 + ((5 / 8) ** 2 + 4 * (3 / 8) ** 2) / 25
    statistic = (2 / 3 - 1 / 5) / np.sqrt(by_patient)
    p = equal_rates_p(outcome, group, ~group, np.arange(8))
    assert p == pytest.approx(2 * t.sf(statistic, 2))
