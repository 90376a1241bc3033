"""Cohorts: slices, counts, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evenhand.cohort.cohort import check_usable, count_groups
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.tables.attributes import UNKNOWN


def test_select_takes_a_mask_or_positions_in_any_order(phantoms):
    minority = phantoms.select(phantoms.table["attr_group"] == "minority")
    assert set(minority.table["attr_group"]) == {"minority"}
    assert minority.table.index.tolist() == list(range(len(minority)))
    turned = phantoms.select(np.array([5, 2]))
    assert turned.table["sample_id"].tolist() == phantoms.table["sample_id"][[5, 2]].tolist()
    assert np.array_equal(turned.labels, phantoms.labels[[5, 2]])


def test_counts_by_hand(phantoms):
    cohort = phantoms.select(np.arange(6))  # three patients, two images each
    table = cohort.table.assign(
        label=[1, 1, 0, 0, 1, 1],
        attr_group=["minority"] * 2 + ["majority"] * 2 + [UNKNOWN] * 2,
        attr_sex="female",
    )
    result = count_groups(replace(cohort, table=table), "group")
    assert result.to_dict("list") == {
        "group": ["majority", "minority", UNKNOWN],
        "n": [2, 2, 2],
        "patients": [1, 1, 1],
        "positives": [0, 2, 2],
    }
    crossed = count_groups(replace(cohort, table=table), "group*sex").set_index("group")
    assert crossed.loc["minority*male"].tolist() == [0, 0, 0]
    assert crossed.loc["minority*female"].tolist() == [2, 1, 2]


def test_positives_mean_nothing_for_three_classes(phantoms):
    cohort = replace(phantoms, classes=("a", "b", "c"))
    assert count_groups(cohort, "group")["positives"].isna().all()


def test_one_class_is_refused(phantoms):
    benign = phantoms.select(phantoms.labels == 0)
    with pytest.raises(EvenhandError, match="every sample has the label 'benign'"):
        check_usable(benign, ())


def test_an_empty_cohort_is_refused(phantoms):
    empty = phantoms.select(phantoms.labels < 0)
    with pytest.raises(EvenhandError, match=r"no sample is left\.$"):
        check_usable(empty, ())
    source = replace(empty.source, left_out=("a.jpg is absent",))
    with pytest.raises(EvenhandError, match=r"no sample is left; left out: a\.jpg is absent"):
        check_usable(replace(empty, source=source), ())


def test_one_level_is_refused_within_an_intersection(phantoms):
    minority = phantoms.select(phantoms.table["attr_group"] == "minority")
    with pytest.raises(EvenhandError, match="'group' has one level, 'minority'"):
        check_usable(minority, ("sex*group",))
    unknown = replace(phantoms, table=phantoms.table.assign(attr_sex=UNKNOWN))
    with pytest.raises(EvenhandError, match="'sex' has no known level"):
        check_usable(unknown, ("sex",))


def test_an_attribute_that_does_not_exist_is_refused():
    cohort = make_phantoms(PhantomSettings(patients=10, size=16))
    with pytest.raises(UnknownNameError, match=r"no attribute 'grup'.*Did you mean 'group'"):
        check_usable(cohort, ("grup",))
