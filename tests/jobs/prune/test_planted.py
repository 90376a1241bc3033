"""FairPrune where its premise is planted, and where it is not (`benchmarks/planted_units.py`)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd
import pytest
from tests.conftest import ROOT

SEEDS = 10
SCRIPT = runpy.run_path(str(Path(ROOT) / "benchmarks" / "planted_units.py"))
UNAWARE = ("Optimal Brain Damage on everybody", "magnitude", "random")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        [row for plant in SCRIPT["PLANTS"] for row in SCRIPT["results"](plant, SEEDS)]
    )


def change(rows, plant, method, name="gap"):
    """Return the mean over seeds with its interval."""
    own = rows[(rows["plant"] == plant) & (rows["method"] == method)]
    return SCRIPT["interval"](own[name].to_numpy(float))


@pytest.mark.parametrize("plant", ["silent", "quiet"])
def test_pruning_units_that_the_privileged_group_alone_needs_closes_the_gap(rows, plant):
    before, _, _ = change(rows, plant, "FairPrune", "gap before")
    mean, low, high = change(rows, plant, "FairPrune")
    assert before > 0.06
    assert high < -0.8 * before
    assert abs(before + mean) < 0.025
    _, low, _ = change(rows, plant, "FairPrune", "unprivileged")
    assert low > (0.005 if plant == "quiet" else -0.005)  # quiet units misled it
    assert change(rows, plant, "FairPrune", "planted")[1] > 0.85


@pytest.mark.parametrize("plant", ["silent", "quiet"])
@pytest.mark.parametrize("method", UNAWARE)
def test_pruning_that_knows_no_groups_does_not(rows, plant, method):
    before, _, _ = change(rows, plant, method, "gap before")
    mean, _, high = change(rows, plant, method)
    assert mean > -0.3 * before
    assert high > -0.2 * before


def test_without_such_units_the_gap_stays(rows):
    before, _, _ = change(rows, "none", "FairPrune", "gap before")
    _, low, _ = change(rows, "none", "FairPrune")
    assert before > 0.02
    assert low > -0.25 * before
    assert abs(change(rows, "none", "FairPrune", "planted")[0] - 0.5) < 0.12


def test_units_that_mislead_at_full_size_are_out_of_its_sight(rows):
    """Their curvature is as large in the group that they mislead; the slope of the loss tells."""
    before, _, _ = change(rows, "loud", "FairPrune", "gap before")
    assert before > 0.2
    assert change(rows, "loud", "FairPrune", "h ratio")[1] > 1 / 3
    assert change(rows, "loud", "FairPrune")[0] > -0.5 * before
    assert change(rows, "loud", "FairPrune", "unprivileged")[0] < 0.1
    assert change(rows, "loud", "with the first-order term", "unprivileged")[1] > 0.15
