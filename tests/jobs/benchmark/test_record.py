"""The typed content of ``benchmark.json``."""

from __future__ import annotations

import json

import pytest

from evenhand.jobs.benchmark.entries import Entry
from evenhand.jobs.benchmark.outcome import entries_text
from evenhand.jobs.benchmark.plan import hash_of
from evenhand.jobs.benchmark.record import (
    BenchmarkRecord,
    DifferenceRecord,
    EntryRecord,
    NumberRecord,
    PlannedDifference,
    PlanRecord,
)
from evenhand.metrics.recipes import Difference
from evenhand.metrics.rows import Key

PLAN = {
    "entries": [{"name": "erm"}, {"name": "head", "strategy": "head"}],
    "reference": "erm",
    "attributes": ["sex"],
    "primary": "auc_worst:sex",
    "test": "t",
    "level": 0.05,
    "selection": "auc_worst",
    "folds": 2,
    "seeds": [0, 1],
    "recipe": {"trials": 1, "lr_min": 1e-5, "lr_max": 1e-3, "epochs": 1, "batch_size": 8},
    "patients": "fingerprint",
}


def number(attribute, value, *, group="*", aggregate="worst"):
    return NumberRecord(
        attribute=attribute, group=group, base="auc", aggregate=aggregate, value=value
    )


def entry(*numbers):
    return EntryRecord(name="head", numbers=numbers, differences=(), levelled_down={})


def test_a_plan_of_an_earlier_version_is_read_with_defaults_for_what_it_lacks():
    plan = PlanRecord.model_validate(PLAN)
    assert plan.decides == "every"
    assert plan.entries == (Entry("erm"), Entry("head", strategy="head"))
    assert plan.primary_metric == "auc_worst"
    assert plan.primary_attributes == ("sex",)
    assert plan.model_copy(update={"primary": "auc_gap"}).primary_attributes == plan.attributes


def test_a_plan_keeps_the_training_settings_that_no_field_names():
    plan = PlanRecord.model_validate(PLAN)
    assert plan.as_json()["recipe"] == PLAN["recipe"]
    more = PLAN | {"recipe": PLAN["recipe"] | {"batch_size": 16}}
    assert PlanRecord.model_validate(more) != plan


def test_the_hash_of_a_plan_is_that_of_its_file():
    values = PlanRecord.model_validate(PLAN | {"decides": "chosen"}).as_json()
    assert hash_of(values) == hash_of(json.loads(json.dumps(values)))


def test_the_mean_of_an_entry_is_over_attributes_and_leaves_groups_out():
    result = entry(number("sex", 0.6), number("age", 0.8), number("sex", 0.1, group="f"))
    assert result.mean("auc_worst", ("sex", "age")) == pytest.approx(0.7)
    assert result.mean("auc_worst", ("age",)) == pytest.approx(0.8)


@pytest.mark.parametrize("numbers", [(), (number("sex", 0.6), number("age", None))])
def test_the_mean_of_an_entry_is_undefined_where_a_number_is_missing(numbers):
    assert entry(*numbers).mean("auc_worst", ("sex", "age")) is None


def test_the_terminal_shows_the_number_that_decides_of_each_entry_and_its_change():
    change = PlannedDifference(**{**number("sex", 0.1).model_dump(), "recipe": "head"}, low=0.05)
    head = entry(number("sex", 0.8), number("age", 0.9)).model_copy(
        update={"differences": (change.model_copy(update={"high": 0.15}),)}
    )
    erm = entry(number("sex", 0.7)).model_copy(update={"name": "erm"})
    record = BenchmarkRecord(plan=PLAN, hash="", entries=(erm, head))
    _, first, second = entries_text(record).splitlines()
    assert first.split() == ["erm", "auc_worst", "sex", "0.700"]
    assert second.split() == [
        *("head", "auc_worst", "sex", "0.800", "+0.100", "+0.050", "to", "+0.150")
    ]


def test_the_terminal_says_why_an_entry_has_no_difference_in_the_primary_number():
    erm, cut, undefined = (
        entry(number("sex", 0.7)).model_copy(update={"name": name, "differences": differences})
        for name, differences in (
            ("erm", ()),
            ("thresholds", ()),
            ("head", (PlannedDifference.of(Difference("head", Key("sex", "*", "auc", "worst"))),)),
        )
    )
    record = BenchmarkRecord(plan=PLAN, hash="", entries=(erm, cut, undefined))
    _, first, second, third = entries_text(record).splitlines()
    assert first.split() == ["erm", "auc_worst", "sex", "0.700"]
    assert "not compared  it changes only decisions, which do not affect this number" in second
    assert third.split()[-3:] == ["undefined", "no", "interval"]


def test_a_difference_keeps_every_field():
    key = Key("sex", "*", "auc", "gap")
    record = DifferenceRecord.of(Difference("head", key, 0.1, 0.0, 0.2, 0.01, 0.02, 0.05, True))
    assert record.as_json() == {
        **{"attribute": "sex", "group": "*", "base": "auc", "aggregate": "gap", "recipe": "head"},
        **{"value": 0.1, "low": 0.0, "high": 0.2, "p": 0.01, "p_adjusted": 0.02},
        **{"detectable": 0.05, "better": True},
    }
