"""Pre-training where features are missing, and not (`benchmarks/ssl_few_labels.py`)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from tests.conftest import ROOT

SEEDS = 10
SCRIPT = runpy.run_path(str(Path(ROOT) / "benchmarks" / "ssl_few_labels.py"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows():
    return SCRIPT["results"](SEEDS)


def change(rows, plant, way):
    """Return the mean over seeds of the gap less supervised's, with its interval."""
    return SCRIPT["interval"](SCRIPT["gap_change"](rows, plant, way))


def minority(rows, plant, way):
    return rows.loc[rows["plant"] == plant, f"{way} minority"].mean()


def test_where_features_are_missing_pretraining_closes_the_gap(rows):
    assert minority(rows, "relation", "frozen untrained") < 0.75
    assert minority(rows, "relation", "frozen") > 0.95
    assert change(rows, "relation", "frozen")[2] < -0.2
    assert change(rows, "relation", "pre-trained")[2] < -0.04


def test_where_untrained_features_suffice_pretraining_adds_little(rows):
    gain = minority(rows, "swing", "frozen") - minority(rows, "swing", "frozen untrained")
    assert minority(rows, "swing", "frozen untrained") > 0.85
    assert gain < 0.1
    missing = minority(rows, "relation", "frozen") - minority(rows, "relation", "frozen untrained")
    assert gain < 0.4 * missing
