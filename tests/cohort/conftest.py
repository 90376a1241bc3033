"""Cohorts that tests of this folder share."""

from __future__ import annotations

import pytest

from evenhand.cohort import Cohort, PhantomSettings, make_phantoms


@pytest.fixture(scope="session")
def phantoms() -> Cohort:
    """60 patients with two images each, 16 pixels wide."""
    return make_phantoms(PhantomSettings(patients=60, images=2, size=16))
