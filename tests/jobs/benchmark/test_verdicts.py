"""What a benchmark says in words: who is better, and whom it costs."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.jobs.benchmark.comparing import Result, primary_keys
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.settings import PRIMARY, BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import Statement, statements_of
from evenhand.metrics.recipes import Difference
from evenhand.metrics.rows import EVERYBODY, Key

OVERALL = Key(EVERYBODY, EVERYBODY, "auc")
WORST = Key("age", EVERYBODY, "auc", "worst")
OLD, YOUNG = Key("age", "old", "auc"), Key("age", "young", "auc")


def said(primary: Key, **better: bool | None) -> list[Statement]:
    """Return the statements about one entry, of which some differences are claimed."""
    keys = {"overall": OVERALL, "worst": WORST, "old": OLD, "young": YOUNG}
    differences = [
        Difference("dro", key, 0.1, 0.05, 0.15, p=0.001, p_adjusted=0.001, better=better.get(name))
        for name, key in keys.items()
    ]
    values = {name: {key: np.zeros((2, 3)) for key in keys.values()} for name in (ERM, "dro")}
    result = Result(values, differences, {}, 2, (primary,), worst={"age": "old"})
    return statements_of(result)


def test_a_winner_is_named_with_the_groups_that_it_costs():
    kind, key, verdict = said(WORST, worst=True, old=True, young=False)[0]
    assert kind == "number"
    assert key == WORST
    assert verdict.claim
    assert "AUC is lost in young (age) under dro" in verdict.text
    assert "No group is shown to lose AUC." in said(WORST, worst=True)[0].verdict.text


@pytest.mark.parametrize("primary", [OVERALL, WORST])
def test_levelling_down_is_said_whichever_number_decides(primary):
    levelling = [one.verdict for one in said(primary, young=False) if one.key is None]
    assert [verdict.attribute for verdict in levelling] == ["age"]
    assert not [one for one in said(primary, young=False, old=True) if one.key is None]


@pytest.mark.parametrize("name", PRIMARY)
def test_the_number_that_decides_is_the_one_of_its_name(name):
    settings = BenchmarkSettings(
        data="a.csv", attribute=("age", "sex"), method=("dfr",), primary=name
    )
    keys = primary_keys(settings)
    across = name not in ("auc", "brier")
    assert [key.attribute for key in keys] == (["age", "sex"] if across else [EVERYBODY])
    assert {"_".join(filter(None, (key.base, key.aggregate))) for key in keys} == {name}
