"""Fewer training patients: nested, in the shares of their labels, and nobody else's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.thinning import SHARES, Thinning
from evenhand.errors import EvenhandError

COHORT = make_phantoms(PhantomSettings(patients=80, size=16, images=2))
LEVELS = COHORT.levels


def patients_of(cohort):
    return set(cohort.table["patient_id"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.sampled_from(["everybody", "group=minority", "group=majority"]))
def test_only_the_named_patients_become_fewer_and_smaller_shares_are_nested(seed, text):
    thinning = Thinning.of_text(text, LEVELS)
    mine = patients_of(COHORT.select(thinning.rows(COHORT)))
    before = patients_of(COHORT)
    for share in reversed(SHARES):
        part = thinning.thin(COHORT, share, ("group",), np.random.default_rng(seed))
        patients = patients_of(part)
        assert patients < before
        assert patients - mine == patients_of(COHORT) - mine
        assert len(patients & mine) == pytest.approx(share * len(mine), abs=2)
        assert thinning.patients(part) == len(patients & mine)
        before = patients


def test_every_label_of_every_group_keeps_its_share():
    part = Thinning().thin(COHORT, 0.5, ("group",), np.random.default_rng(0))
    sizes = [cohort.table.groupby(["attr_group", "label"], observed=True)["patient_id"].nunique()
             for cohort in (COHORT, part)]  # fmt: skip
    assert (sizes[1] - sizes[0] / 2).abs().max() <= 0.5


def test_all_patients_are_the_cohort_itself():
    assert Thinning().thin(COHORT, 1, (), np.random.default_rng(0)) is COHORT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("minority", "--curve minority: give the patients"),
        ("race=minority", "race"),
        ("group=none", "none"),
        ("group*group=minority", "minority"),
    ],
)
def test_other_names_are_refused(text, says):
    with pytest.raises(EvenhandError, match=says):
        Thinning.of_text(text, LEVELS)


def test_a_group_of_an_intersection_is_named_by_its_levels():
    levels = {"sex": ("f", "m"), "age": ("under 60", "60+")}
    assert Thinning.of_text("sex*age=f*60+", levels).level == "f*60+"


def test_of_every_label_of_a_group_one_patient_stays():
    part = Thinning().thin(COHORT, 0.001, ("group",), np.random.default_rng(0))
    cells = part.table.groupby(["attr_group", "label"], observed=True)["patient_id"].nunique()
    assert cells.tolist() == [1, 1, 1, 1]
