"""FairTune where its premise is planted, and where it is not (`benchmarks/tuning_less.py`)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from tests.conftest import ROOT

SEEDS = 10
SCRIPT = runpy.run_path(str(Path(ROOT) / "benchmarks" / "tuning_less.py"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows():
    return SCRIPT["results"](SEEDS)


def growth(rows, case, number):
    """Return the mean over seeds of full fine-tuning less the head alone, with its interval."""
    return SCRIPT["interval"](SCRIPT["growth"](rows, case, number))


def gain(rows, case, number):
    """Return the mean over seeds of what is chosen less full fine-tuning, with its interval."""
    return SCRIPT["interval"](SCRIPT["gain"](rows, case, number))


def test_with_more_tuned_parameters_the_gap_grows_on_validation_and_not_on_training(rows):
    _, low, _ = growth(rows, "few", "validation")
    assert low > 0.1
    full = SCRIPT["gaps"](rows, "few").query("parameters == parameters.max()")
    assert full["train"].abs().mean() < 0.02  # looks fair where it was trained
    assert full["validation"].mean() > 0.15


def test_a_small_minority_is_overfitted_and_served_better_by_tuning_less(rows):
    assert growth(rows, "few", "test minority")[2] < -0.04
    _, low, _ = gain(rows, "few", "test minority")
    assert low > 0.04
    assert gain(rows, "few", "gap")[2] < -0.1
    assert gain(rows, "few", "test majority")[0] < -0.05  # which pays for it


@pytest.mark.parametrize("number", ["test minority", "worst"])
def test_a_minority_of_many_patients_gains_little(rows, number):
    assert abs(gain(rows, "many", number)[0]) < 0.4 * gain(rows, "few", number)[0]


def test_from_random_weights_tuning_less_serves_nobody(rows):
    for group in ("majority", "minority"):
        assert growth(rows, "untrained", f"test {group}")[1] > 0.04
        assert gain(rows, "untrained", f"test {group}")[0] < 0.4 * 0.1
