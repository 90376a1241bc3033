"""Cohorts that tests of this folder share."""

from __future__ import annotations

import pytest

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms


@pytest.fixture(scope="session")
def phantoms() -> Cohort:
    """60 patients with two images each, 16 pixels wide."""
    return make_phantoms(PhantomSettings(patients=60, images=2, size=16))
