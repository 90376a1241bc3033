"""The answer about groups: by which metric it is told, and what else tells them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evenhand.reporting import Report
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.sections.answers import (
    answer_view,
    group_answer,
    spread_answer,
    strategy_answer,
)

ROW = Estimate(
    model="m", split="test", attribute="sex", group="f", base="auc", value=0.7, low=0.65,
    high=0.75, level=0.95, n=100, patients=90, positives=30,
)  # fmt: skip


def rows(metric: str, p: float) -> list[Estimate]:
    """Two groups, and their gap with its corrected p-value."""
    gap = replace(ROW, base=metric, aggregate="gap", group="*", value=0.2, low=0.1, high=0.3)
    gap = replace(gap, p_adjusted=p)
    row = replace(ROW, base=metric)
    return [row, replace(row, group="m", value=0.9), gap]


@pytest.mark.parametrize("apart", ["auc", "specificity"])
def test_groups_that_differ_in_something_else_are_not_said_to_be_alike(apart: str) -> None:
    tests = dict.fromkeys(("sensitivity", "auc", "specificity"), 0.2) | {apart: 0.01}
    answer = group_answer([row for m, p in tests.items() for row in rows(m, p)], "m", "sex", "")
    assert answer
    assert answer.outcome == "a gap"
    assert answer.chip == ("a gap in AUC" if apart == "auc" else f"a gap in {apart}")
    assert "finds 70 of 100" in answer.headline
    assert sum("the groups do differ" in sentence for sentence in answer.details) == 1


def test_nothing_is_added_where_sensitivity_tells_the_groups_apart() -> None:
    estimates = [*rows("sensitivity", 0.01), *rows("auc", 0.01), *rows("specificity", 0.01)]
    answer = group_answer(estimates, "m", "sex", "sick")
    assert answer
    assert answer.outcome == answer.chip == "a gap"
    assert not any("the groups do differ" in sentence for sentence in answer.details)


def test_nobody_can_tell_where_nothing_does() -> None:
    estimates = [*rows("sensitivity", 0.2), *rows("auc", 0.2), *rows("specificity", 0.2)]
    answer = group_answer(estimates, "m", "sex", "sick")
    assert answer
    assert answer.outcome == "cannot tell"
    assert [dots.cases for dots in answer.dots] == ["21 of 30", "27 of 30"]


def test_a_group_that_a_model_serves_worse_is_named() -> None:
    """The worst group may be another one than before, so that it tells nothing of this one."""
    held = {"model": "pruned", "against": "before"}
    worst = replace(ROW, base="auc", aggregate="worst", group="*")
    changes = [
        replace(ROW, **held, value=-0.4, low=-0.6, high=-0.2, p_adjusted=0.003),
        replace(ROW, **held, group="m", value=0.1, low=-0.1, high=0.2),
        replace(ROW, **held, group="x", value=-0.4, low=-0.6, high=-0.2, compared=False),
        replace(worst, **held, value=-0.1, low=-0.3, high=0.1),
    ]
    both = [replace(worst, model=model) for model in held.values()]
    before = [replace(ROW, model="before", group=g, value=v) for g, v in (("f", 0.9), ("m", 0.6))]
    answer = strategy_answer([*both, *before, *changes], "pruned", "sex", "auc")
    assert answer
    assert answer.outcome == "levelled down"
    named = [sentence for sentence in answer.details if sentence.startswith("Where")]
    assert named == [
        "Where sex is f, against before: −0.400 (95\N{NO-BREAK SPACE}% interval −0.600 to −0.200; "
        "corrected p = 0.003): worse."
    ]


F, M = ROW, replace(ROW, group="m", value=0.9)


@pytest.mark.parametrize(
    ("estimates", "why"),
    [
        ([F], "there are no two groups to compare"),
        ([F, replace(M, compared=False)], "there are no two groups to compare"),
        ([F, replace(M, value=None)], "there are no two groups whose numbers are defined"),
        ([F, replace(M, value=F.value)], "the numbers of all groups are equal"),
        (
            [replace(row, base=m) for m in ("selection_rate", "prevalence") for row in (F, M)],
            "no value of Share flagged and Prevalence is better than another",
        ),
    ],
)
def test_why_nothing_can_be_said(estimates: list[Estimate], why: str) -> None:
    answer = group_answer(estimates, "m", "sex", "sick")
    assert answer
    assert answer.headline == f"Nothing can be said about sex: {why}."


def spreads(p: float) -> list[Estimate]:
    """Return the equalised odds difference of two models, and that of the first less the other."""
    own = replace(ROW, base="equalized_odds_difference", group="*")
    return [
        replace(own, model="tuned", value=0.1),
        replace(own, model="full", value=0.4),
        replace(own, model="tuned", against="full", value=-0.3, low=-0.4, high=-0.2, p_adjusted=p),
    ]


@pytest.mark.parametrize(
    ("p", "outcome", "headline"),
    [
        (0.01, "better", "The equalized odds difference of tuned is smaller than that of full."),
        (
            0.2,
            "cannot tell",
            "These data do not show that the equalized odds difference of tuned is smaller or "
            "larger than that of full.",
        ),
    ],
)
def test_the_spread_that_chose_the_models_is_answered(
    p: float, outcome: str, headline: str
) -> None:
    answer = spread_answer(spreads(p), "tuned", "sex", "equalized_odds_difference")
    assert answer
    assert (answer.outcome, answer.headline) == (outcome, headline)
    assert answer.details[0] == "Equalized odds difference: tuned 0.100 and full 0.400."
    (verdict,) = answer.verdicts
    assert verdict.claim == (p <= 0.05)


def test_many_answers_have_an_overview_and_few_have_none(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    def overview(models: str) -> dict[str, list[str]]:
        rows = [row for name in models for row in make_rows("auc", 0.7, 0.8, model=name)]
        return dict(answer_view(make_report(rows)).overview)

    assert overview("AB") == {}
    assert [topic for topics in overview("ABCDE").values() for topic in topics] == [
        f"Age under {name}" for name in "ABCDE"
    ]
