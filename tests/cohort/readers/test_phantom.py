"""Phantoms as DATA."""

from __future__ import annotations

import pytest

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError


def test_settings_follow_the_colon():
    cohort = open_cohort(DataSettings(data="phantom:patients=12,size=16,harder=0.25,seed=3"))
    same = make_phantoms(PhantomSettings(patients=12, size=16, harder=0.25, seed=3))
    assert cohort.source == same.source
    assert "harder=0.25" in cohort.source.path


def test_nothing_after_the_colon_means_the_defaults():
    assert len(open_cohort(DataSettings(data="phantom:"))) == PhantomSettings().patients


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("phantom:hard=1", "no setting of phantoms 'hard'.*Did you mean 'harder'"),
        ("phantom:harder=2,patients=x", "patients=x: .*valid integer.*; harder=2: .*equal to 1"),
        ("phantom:harder", "phantom:harder cannot be made: harder=: "),
        ("series_phantom:harder=2", "series_phantom:harder=2 cannot be made: "),
    ],
)
def test_what_is_refused(data, problem):
    with pytest.raises(EvenhandError, match=problem):
        open_cohort(DataSettings(data=data))


@pytest.mark.parametrize("name", ["phantom", "series_phantom"])
def test_settings_of_a_table_are_refused(name):
    with pytest.raises(EvenhandError, match=f"--label and --bins cannot be given with {name}:"):
        open_cohort(DataSettings(data=f"{name}:", label="x", bins=("age=60",)))
