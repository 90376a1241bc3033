"""What the similarity section says of an attribute, with one seed and with several."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from evenhand.reporting.section import sections_of
from evenhand.reporting.sections.similarity import similarity_verdicts
from evenhand.reporting.similarity_record import (
    AttributeSummary,
    SeedSummary,
    SimilarityRecord,
    mean,
)
from evenhand.representation.jackknife import IntervalEstimate
from evenhand.representation.results import AttributeSimilarity, GroupSimilarity, LayerMatrix


def matrix(value):
    return LayerMatrix(((value,),), ((value - 0.1,),), ((value + 0.1,),))


def group(name, p, mean=0.5):
    numbers = vars(matrix(mean))
    return GroupSimilarity(group=name, patients=40, auc=0.8, p=p, p_adjusted=p, **numbers)


def attribute(p):
    p, other = p if isinstance(p, tuple) else (p, p)
    return AttributeSimilarity(
        batch=40,
        groups=(group("a", p, 0.7), group("b", other)),
        best="a",
        worst="b",
        difference=matrix(0.2),
        size=IntervalEstimate(0.2, 0.1, 0.3),
    )


def summary(p, sign):
    own = AttributeSummary.of(attribute(p))
    return own.model_copy(update={"difference": sign * own.difference})


def record(*ps, signs=()):
    return SimilarityRecord(
        models=("one", "other"),
        layers=(("conv1",), ("conv1",)),
        widths=((8,), (8,)),
        kernel="linear",
        split="val",
        unit="patient",
        level=0.95,
        patients=80,
        everybody=matrix(0.5),
        attributes={"sex": attribute(ps[0])},
        ratios=(),
        seeds=[
            SeedSummary(seed=seed, attributes={"sex": summary(p, sign)})
            for seed, (p, sign) in enumerate(zip(ps, signs or [1] * len(ps), strict=True))
        ],
    )


def view(*ps, signs=()):
    (section,) = sections_of("similarity", record(*ps, signs=signs))
    return section.view["attributes"][0]


@pytest.mark.parametrize(
    ("ps", "outcome", "text"),
    [
        ((0.01,), "a gap", "agree more on a than on b"),
        ((0.01, 0.02), "a gap", "agree more on a than on b"),
        ((0.01, 0.4), "cannot tell", "in 1 of 2 seeds; not all"),
        ((0.4, 0.01), "cannot tell", "in 1 of 2 seeds; not all"),
        ((0.4, 0.4), "cannot tell", "No group by sex is shown to be represented differently"),
    ],
)
def test_a_gap_is_told_where_every_seed_has_it(ps, outcome, text):
    shown = view(*ps)
    assert shown.outcome == outcome
    assert text in shown.headline
    (verdict,) = similarity_verdicts(record(*ps))
    assert verdict.claim == (outcome == "a gap")
    assert verdict.text == shown.headline
    assert verdict.attribute == "sex"


def test_seeds_that_disagree_on_the_group_or_the_side_tell_no_gap():
    assert "in 2 of 2 seeds; not all" in view((0.01, 0.4), (0.4, 0.01)).headline
    assert view(0.01, 0.01, signs=(1, -1)).outcome == "cannot tell"
    assert view(0.01, 0.01, signs=(1, 1)).outcome == "a gap"


def test_seeds_are_side_by_side_where_there_are_several():
    assert view(0.01).seeds is None
    seeds = view(0.01, 0.4).seeds
    assert seeds.seeds == ("seed 0", "seed 1")
    assert seeds.rows[0] == ("a", ("0.700, p = 0.010", "0.700, p = 0.400"))
    assert seeds.rows[-1][1] == ("0.200 (0.100 to 0.300)",) * 2


def test_the_record_comes_back_from_its_file_as_it_was():
    own = record(0.01, 0.4)
    values = json.loads(json.dumps(own.as_json()))
    assert SimilarityRecord.model_validate(values) == own
    sex = values["attributes"]["sex"]
    assert "undefined" not in sex  # what does not apply is left out
    assert sex["groups"][0]["value"] == [[0.7]]


def test_the_mean_of_layers_that_do_not_vary_is_undefined():
    assert math.isnan(mean(((None,),)))


def test_a_summary_has_every_group_that_was_compared_tested_or_not():
    compared, untested = group("a", 0.1), group("b", None)
    absent = GroupSimilarity(group="c", patients=3, auc=None, undefined="3 patients")
    own = replace(attribute(0.1), groups=(compared, untested, absent))
    assert [row.group for row in AttributeSummary.of(own).groups] == ["a", "b"]
