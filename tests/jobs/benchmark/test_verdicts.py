"""What a benchmark says in words: who is better, and whom it costs."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.jobs.benchmark.comparing import Result, Roles, primary_keys
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.page import _overview_row
from evenhand.jobs.benchmark.settings import PRIMARY, BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import Statement, make_statements
from evenhand.metrics.recipes import Difference
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.reporting.verdicts import Verdict

OVERALL = Key(EVERYBODY, EVERYBODY, "auc")
WORST = Key("age", EVERYBODY, "auc", "worst")
OLD, YOUNG = Key("age", "old", "auc"), Key("age", "young", "auc")


def compared(primary: Key, **better: bool | None) -> Result:
    """Return the comparison of one entry, of which some differences are claimed."""
    keys = {"overall": OVERALL, "worst": WORST, "old": OLD, "young": YOUNG}
    differences = [change(key, better.get(name)) for name, key in keys.items()]
    values = {name: {key: np.zeros((2, 3)) for key in keys.values()} for name in (ERM, "dro")}
    return Result(values, differences, {}, 2, (primary,), worst={"age": "old"})


def change(key: Key, better: bool | None) -> Difference:
    sign = -1 if better is False else 1
    low, high = sorted((0.05 * sign, 0.15 * sign))
    return Difference("dro", key, 0.1 * sign, low, high, 0.001, 0.001, better=better)


def statements(primary: Key, **better: bool | None) -> list[Statement]:
    return make_statements(compared(primary, **better))


def test_a_winner_is_named_with_the_groups_that_it_costs():
    kind, key, verdict, *_ = statements(WORST, worst=True, old=True, young=False)[0]
    assert kind == "number"
    assert key == WORST
    assert verdict.claim
    assert "AUC is lost in young (age) under dro" in verdict.text
    assert "No group is shown to lose AUC." in statements(WORST, worst=True)[0].verdict.text


@pytest.mark.parametrize("primary", [OVERALL, WORST])
def test_levelling_down_is_said_whichever_number_decides(primary):
    levelling = [
        statement.verdict for statement in statements(primary, young=False) if statement.key is None
    ]
    assert [verdict.attribute for verdict in levelling] == ["age"]
    assert not [
        statement
        for statement in statements(primary, young=False, old=True)
        if statement.key is None
    ]


@pytest.mark.parametrize("name", PRIMARY)
def test_the_number_that_decides_is_the_one_of_its_name(name):
    settings = BenchmarkSettings(
        data="a.csv", attribute=("age", "sex"), method=("dfr",), primary=name
    )
    keys = primary_keys(settings)
    across = name not in ("auc", "brier")
    assert [key.attribute for key in keys] == (["age", "sex"] if across else [EVERYBODY])
    assert {"_".join(filter(None, (key.base, key.aggregate))) for key in keys} == {name}


def glance(primary: Key, **better: bool | None) -> tuple[str, ...]:
    """Return the row of the entry in the table of all entries at a glance."""
    return _overview_row(compared(primary, **better), "dro")


def test_at_a_glance_an_entry_has_its_gain_whom_it_costs_and_a_word():
    shown = glance(WORST, worst=True, old=True, young=False)
    assert shown == (
        *("dro", "+0.100 (+0.050 to +0.150)", "old: +0.100 (+0.050 to +0.150)"),
        *("young: \N{MINUS SIGN}0.100 (\N{MINUS SIGN}0.150 to \N{MINUS SIGN}0.050)", "better"),
    )
    assert glance(WORST, worst=True)[3:] == ("none", "better")
    assert glance(WORST)[4] == "not shown"
    assert glance(WORST, worst=False)[4] == "worse"
    assert glance(WORST, young=False)[4] == "not shown, levels down"
    down = glance(WORST, old=False)
    assert down[2].startswith("old: \N{MINUS SIGN}0.100")
    assert down[3] == "the same group"


def planned_verdict(*differences: Difference) -> Verdict:
    """Return the verdict on the number that decides."""
    values = {name: {WORST: np.zeros((2, 3))} for name in (ERM, "dro", "head")}
    return make_statements(Result(values, differences, {}, 2, (WORST,)))[0].verdict


def test_the_p_value_of_a_verdict_is_that_of_the_entries_that_look_better():
    loser = Difference("head", WORST, -0.2, -0.3, -0.1, 0.001, 0.002, better=False)
    winner = Difference("dro", WORST, 0.1, 0.05, 0.15, 0.01, 0.012, better=True)
    verdict = planned_verdict(winner, loser)
    assert verdict.claim
    assert verdict.p_adjusted == 0.012
    assert "Shown to be worse than erm: head (" in verdict.text


def test_a_loss_alone_is_said_and_has_no_p_value_of_a_gain():
    verdict = planned_verdict(
        Difference("head", WORST, -0.2, -0.3, -0.1, 0.001, 0.002, better=False)
    )
    assert not verdict.claim
    assert verdict.p_adjusted is None
    assert "None was shown to be better." in verdict.text
    assert "Shown to be worse than erm: head (" in verdict.text


def test_a_number_that_no_entry_can_change_is_said_to_be_untested():
    result = Result({ERM: {}, "thresholds": {}}, [], {}, 2, (WORST,))
    verdict = make_statements(result)[0].verdict
    assert verdict.about == "auc_worst against erm"
    assert not verdict.claim
    assert verdict.text.startswith("No entry is tested by auc_worst")


def test_decisions_that_cost_a_group_more_than_allowed_are_better_at_a_price():
    gap, rate = Key("age", EVERYBODY, "equalized_odds_difference"), Key("age", "old", "specificity")
    for lost, word in ((-0.005, "better"), (-0.02, "better, at a price")):
        changes = [
            Difference("cut", gap, -0.2, -0.3, -0.1, 0.001, 0.001, better=True),
            Difference("cut", rate, lost, lost, lost, 0.5, 0.5),
        ]
        values = {name: {gap: np.zeros((2, 3)), rate: np.zeros((2, 3))} for name in (ERM, "cut")}
        roles = Roles(decision_entries=frozenset(["cut"]))
        result = Result(values, changes, {}, 2, (gap,), worst={"age": "old"}, roles=roles)
        assert _overview_row(result, "cut")[-1] == word
