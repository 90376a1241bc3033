"""The answer about groups: by which metric it is told, and what else tells them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evenhand.reporting import Report
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.sections.answers import (
    ReportAnswer,
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


def answer_where(*shown: str) -> ReportAnswer:
    """Return the answer of a page that shows a gap in some metrics and none in the others."""
    tests = dict.fromkeys(("sensitivity", "auc", "specificity"), 0.2) | dict.fromkeys(shown, 0.01)
    estimates = [row for metric, p in tests.items() for row in rows(metric, p)]
    answer = group_answer(estimates, "m", "sex", "sick")
    assert answer
    return answer


@pytest.mark.parametrize(
    ("shown", "headline", "chip", "others"),
    [
        (
            ["specificity"],
            "rightly clears 70 of 100 cases that are not sick",
            "a gap in specificity",
            [
                "No gap is shown in sensitivity: lowest 70.0",
                "No gap is shown in AUC: lowest 0.700, highest 0.900 (corrected",
            ],
        ),
        (
            ["auc"],
            "scores a sick case above another case 70 times in 100",
            "a gap in AUC",
            ["No gap is shown in sensitivity: ", "No gap is shown in specificity: "],
        ),
        (
            ["sensitivity"],
            "finds 70 of 100 sick cases",
            "a gap in sensitivity",
            ["No gap is shown in AUC: ", "No gap is shown in specificity: "],
        ),
        (
            ["auc", "specificity"],
            "scores a sick case above another case 70 times in 100",
            "a gap in AUC and specificity",
            ["In specificity, too, the groups differ", "No gap is shown in sensitivity: "],
        ),
        (
            ["sensitivity", "auc", "specificity"],
            "finds 70 of 100 sick cases",
            "a gap in sensitivity, AUC and specificity",
            ["In AUC, too, the groups differ", "In specificity, too, the groups differ"],
        ),
        (
            [],
            "finds 70 of 100 sick cases",
            "cannot tell",
            ["These data do not show that the two groups differ in sensitivity (",
             "No gap is shown in AUC: ", "No gap is shown in specificity: "],
        ),
    ],
)  # fmt: skip
def test_the_headline_is_about_a_gap_that_is_shown_and_every_judged_metric_is_named(
    shown: list[str], headline: str, chip: str, others: list[str]
) -> None:
    answer = answer_where(*shown)
    assert headline in answer.headline
    assert answer.chip == chip
    assert answer.headline.startswith("No gap is shown. ") == (not shown)
    assert bool(answer.dots) == ("finds" in headline)
    for text in others:
        assert sum(text in sentence for sentence in answer.details) == 1
    claimed = {verdict.about for verdict in answer.verdicts if verdict.claim}
    assert claimed == {f"{metric} gap of m" for metric in shown}
    assert len(answer.verdicts) == 3


def test_the_answer_names_the_threshold_and_its_rule(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rule = "Decision rule: Youden's index, on the validation rows."
    auc = make_rows("auc", 0.7, 0.8)
    decided = make_rows("sensitivity", 0.28, 0.56, threshold=0.4312)
    view = answer_view(make_report([*auc, *decided], threshold_rule=rule))
    assert "finds 28 of 100 malignant cases at the threshold 0.431; " in view.answers[0].headline
    assert any(rule in remark for remark in view.remarks)
    view = answer_view(make_report(auc, threshold_rule=rule))
    assert not any(rule in remark for remark in view.remarks)


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


@pytest.mark.parametrize("low", [None, -0.1])
def test_models_with_the_same_numbers_are_said_to_have_the_same(low: float | None) -> None:
    high = None if low is None else -low
    pair = {"model": "tuned", "against": "full", "value": 0.0, "low": low, "high": high}
    worst = replace(ROW, aggregate="worst", group="*")
    both = [replace(worst, model=name) for name in ("tuned", "full")]
    overall = replace(ROW, attribute="*", group="*", **pair)
    singles = [replace(ROW, attribute="*", group="*", model=name) for name in ("tuned", "full")]
    answer = strategy_answer(
        [*both, *singles, replace(worst, **pair), overall], "tuned", "sex", "auc"
    )
    assert answer
    same = "have the same AUC of everybody and of the worst group." in answer.headline
    assert same == (low is None)
    assert answer.outcome == "cannot tell"
