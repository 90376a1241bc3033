"""Differences of recipes: intervals hold over patients and seeds, and count neither twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_ind

from evenhand.metrics.seeds import recipe_difference

PATIENTS = 100


def recipes(rng, seeds, *, by_seed, luck, apart, planted=0.0, resamples=200):
    """Return values of two recipes: means over patients, and the same in resamples of these.

    ``by_seed``, ``luck`` and ``apart`` are the standard deviations of a model's mean by its seed,
    by its own luck with the patients, and by what its recipe does with them.
    """
    shares = rng.multinomial(PATIENTS, [1 / PATIENTS] * PATIENTS, size=resamples) / PATIENTS
    both, root = rng.normal(size=PATIENTS), np.sqrt(PATIENTS)
    values = []
    for shift in (planted, 0.0):
        own = rng.normal(0, apart * root / np.sqrt(2), PATIENTS)
        models = rng.normal(0, by_seed, (seeds, 1)) + rng.normal(0, luck * root, (seeds, PATIENTS))
        of_patients = both + own + models + shift
        values.append(np.c_[of_patients.mean(axis=1), of_patients @ shares.T])
    return values


def share_claimed(seeds, repeats, **how):
    rng = np.random.default_rng(7)
    p = [recipe_difference(*recipes(rng, seeds, **how), PATIENTS).p for _ in range(repeats)]
    return float(np.mean(np.array(p) < 0.05))


def test_without_patients_it_is_welch_s_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 1)), 1 + 3 * rng.normal(size=(3, 1))
    result = recipe_difference(first.repeat(50, 1), second.repeat(50, 1), PATIENTS)
    wanted = ttest_ind(first[:, 0], second[:, 0], equal_var=False)
    assert result.p == pytest.approx(wanted.pvalue)
    assert result.freedom == pytest.approx(wanted.df)
    low, high = wanted.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((low, high))


def test_with_one_seed_it_is_the_patients_interval():
    rng = np.random.default_rng(0)
    first, second = recipes(rng, 1, by_seed=0.1, luck=0.1, apart=0.1)
    result = recipe_difference(first, second, PATIENTS)
    error = (first - second)[0, 1:].std(ddof=1)
    assert result.error == pytest.approx(error)
    assert result.high - result.value == pytest.approx(t.isf(0.025, PATIENTS - 1) * error)


def test_a_model_s_own_luck_with_patients_is_counted_once():
    """Seeds that differ by luck with patients alone: seeds add nothing that resamples lack."""
    rng = np.random.default_rng(1)
    values = [recipes(rng, 10, by_seed=0.0, luck=1.0, apart=0.0) for _ in range(100)]
    errors = [recipe_difference(*both, PATIENTS).error for both in values]
    spread = np.std([item[:, 0].mean() - other[:, 0].mean() for item, other in values])
    assert np.mean(errors) == pytest.approx(spread, rel=0.25)  # counted twice it were 1.41


def test_a_quarter_of_the_models_own_luck_has_the_patients_degrees_of_freedom():
    """Luck alone, of variance i in each model: i/S − i/4S with S − 1, the rest with n − 1."""
    seeds, rng = 4, np.random.default_rng(2)
    first = 0.8 + rng.normal(size=(seeds, 20001))
    first[:, 0] = 0.8  # on the data, seeds do not differ
    second = np.zeros((1, first.shape[1]))
    result = recipe_difference(first, second, PATIENTS)
    wanted = 1 / (0.25**2 / (PATIENTS - 1) + 0.75**2 / (seeds - 1))
    assert result.freedom == pytest.approx(wanted, rel=0.05)


@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(0, 2**32 - 1))
def test_units_and_order_do_not_matter(factor, shift, seed):
    first, second = recipes(
        np.random.default_rng(seed), 3, by_seed=1, luck=1, apart=1, resamples=20
    )
    result = recipe_difference(first, second, PATIENTS)
    other = recipe_difference(second * factor + shift, first * factor + shift, PATIENTS)
    assert (-other.high / factor, other.p) == pytest.approx((result.low, result.p))


def test_undefined_resamples_leave_no_interval_beyond_one_in_20():
    rng = np.random.default_rng(0)
    first, second = recipes(rng, 3, by_seed=0.1, luck=0.1, apart=0.1)
    first[1, 1:10] = np.nan
    assert recipe_difference(first, second, PATIENTS) is not None
    first[2, 10:20] = np.nan
    assert recipe_difference(first, second, PATIENTS) is None
    first[:, 0] = np.nan
    assert recipe_difference(first, second, PATIENTS) is None


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("by_seed", "luck", "apart"), [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 1, 1), (0, 0.3, 1)]
)
def test_the_same_recipe_twice_is_seldom_told_apart(seeds, by_seed, luck, apart):
    claimed = share_claimed(seeds, 400, by_seed=by_seed, luck=luck, apart=apart)
    print(f"{seeds} seeds, {by_seed} {luck} {apart}: {claimed:.3f}")
    assert claimed <= 0.08


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.6), (5, 0.7)])
def test_a_planted_difference_is_seen(seeds, least):
    by_seed, luck, apart = 0.5, 1.0, 1.0
    error = np.sqrt(2 * (by_seed**2 + luck**2) / seeds + apart**2)
    how = {"by_seed": by_seed, "luck": luck, "apart": apart}
    assert share_claimed(seeds, 100, planted=3 * error, **how) >= least


def test_where_patients_add_nothing_the_freedom_is_that_of_the_seeds():
    first = np.repeat([[0.80], [0.82], [0.79], [0.85]], 201, axis=1)
    difference = recipe_difference(first, np.zeros((1, 201)), patients=500)
    assert difference.freedom == pytest.approx(3)
    assert difference.error == pytest.approx(first[:, 0].std(ddof=1) / 2)


def test_what_other_patients_would_change_of_a_seed_is_taken_from_the_spread_of_seeds():
    """Two seeds ±a, whose resamples move by ±r: the variance is (2a² − 2 var r) / 2."""
    moved = np.random.default_rng(0).normal(0, 0.01, 400)
    row = np.r_[0.05, 0.05 + moved]
    difference = recipe_difference(np.stack([row, -row]), np.zeros((1, 401)), patients=500)
    assert difference.error**2 == pytest.approx(0.05**2 - moved.var(ddof=1))
