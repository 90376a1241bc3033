"""A page of one recipe against itself seldom claims anything (`benchmarks/assess_null.py`)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from scipy.stats import binom
from tests.conftest import ROOT

SCRIPT = runpy.run_path(str(Path(ROOT) / "benchmarks" / "assess_null.py"))
PAGES = 100


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_pages_without_any_difference_seldom_claim_one(seeds):
    pages = [SCRIPT["claims_of_page"](1, seeds, page) for page in range(PAGES)]
    claiming = sum(page["evaluation"] or page["similarity"] for page in pages)
    assert claiming <= binom.ppf(0.99, PAGES, 0.05)
