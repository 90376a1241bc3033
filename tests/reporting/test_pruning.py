"""What the report says of a pruning: the chosen step, the layers, the premise, the cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.records import make_record

from evenhand.jobs.prune.settings import PruneSettings
from evenhand.reporting import model_card
from evenhand.reporting.pruning_record import PruningRecord
from evenhand.reporting.report import Pruning
from evenhand.reporting.sections.answers import answer_view
from evenhand.reporting.sections.pruning import pruning_view

COST = {"parameters": 1000, "size": 4_000_000, "milliseconds": 2.0, "device": "cpu, threads: 1"}


def layer(name: str, pruned: int, predicted: float, measured: float) -> dict[str, Any]:
    return {
        "name": name,
        "size": 100,
        "pruned": pruned,
        "saliency": {"old": 0.25, "young": 0.5},
        "predicted": {"old": predicted, "young": -predicted},
        "measured": {"old": measured, "young": 0.0},
    }


def pruning(**changes: Any) -> Pruning:
    curve = pd.DataFrame(
        {
            "step": [0, 1, 2],
            "sparsity": [0.0, 0.1, 0.2],
            "left": [1000, 900, 800],
            "auc": [0.9, 0.895, 0.7],
            "auc:old": [0.8, 0.81, 0.6],
            "auc:young": [0.92, 0.91, None],
            "auc_gap": [0.12, 0.1, None],
        }
    )
    facts = {
        "attribute": "age",
        "unprivileged": "old",
        "betas": {"young": 0.33},
        "roles": "On validation, auc is worst for old.",
        "verdict": "Step 1 wins on validation.",
        "criterion": "auc_gap",
        "lower_is_better": True,
        "target": None,
        "budget": 1.0,
        "budget_metric": "auc",
        "budget_lower_is_worse": True,
        "estimator": "ggn-mc",
        "structure": "weight",
        "share": 10.0,
        "luck": None,
        "chosen": 1,
        "premise": {
            "layers": [layer("a.weight", 25, 1e-3, 2e-3), layer("b.weight", 0, 1e-2, -1e-2)],
            "correlation": {"young": None, "old": 0.5},
            "samples": 128,
            "share": 0.3,
        },
        "cost": {
            "before": {**COST, "zeros": 0, "compressed": 3_500_000},
            "pruned": {**COST, "zeros": 100, "compressed": 3_000_000},
        },
    }
    return Pruning(curve, PruningRecord.model_validate(facts | changes))


@pytest.mark.parametrize(("chosen", "unchanged"), [(0, True), (1, False)])
def test_the_card_says_when_no_step_was_chosen(chosen, unchanged, make_rows, make_report):
    rows = make_report(make_rows("auc", 0.71, 0.83, model="pruned")).rows
    card = model_card(make_record(), rows, "pruned", pruning=pruning(chosen=chosen))
    assert ("- unchanged: no step within the budget" in card) == unchanged


@pytest.mark.parametrize(("chosen", "unchanged"), [(0, True), (1, False)])
def test_the_answer_says_that_an_unchanged_model_is_the_same(
    chosen, unchanged, make_rows, make_row, make_report
):
    rows = [
        *make_rows("auc", 0.71, 0.83, model="pruned"),
        *make_rows("auc", 0.71, 0.83, model="before"),
        make_row("auc", 0.0, "worst", attribute="age", model="pruned", against="before"),
    ]
    settings = PruneSettings(run="run", attribute=("age",))
    record = make_record("prune", settings, chosen="pruned", models=("before", "pruned"))
    report = make_report(rows, record=record, pruning=pruning(chosen=chosen))
    compared, *about_groups = answer_view(report).answers
    assert compared.details[0].startswith("Nothing was pruned") == unchanged
    assert not any("Nothing was pruned" in " ".join(answer.details) for answer in about_groups)


def test_the_chosen_step_is_marked_at_its_place():
    view = pruning_view(pruning())
    assert [chosen for chosen, _ in view.steps] == [False, True, False]
    for chart in view.step_charts:
        (place,) = chart.chosen
        assert place == chart.traces[0].marks[1][:2]
    assert view.steps[2][1] == ("2", "20.0\xa0%", "undefined", "0.7000", "0.6000", "undefined")


def test_the_budget_is_a_level_one_point_below_the_start():
    chart = pruning_view(pruning()).step_charts[1]
    start, inside = (y for _, y, _ in chart.traces[0].marks[:2])
    assert chart.reference is not None
    assert start < inside < chart.reference  # places grow downwards
    assert pruning_view(pruning(budget=None)).step_charts[1].reference is None


def test_the_half_that_confirms_is_drawn_beside_the_half_that_chooses():
    alone = pruning_view(pruning())
    assert [trace.name for trace in alone.step_charts[0].traces] == ["auc_gap"]
    halved = pruning()
    halved.curve["confirm:auc_gap"] = [0.11, 0.13, 0.15]
    view = pruning_view(halved)
    first, second = view.step_charts[0].traces
    assert (first.name, second.name) == (
        "auc_gap, the half that chooses",
        "auc_gap, the half that confirms",
    )
    assert first.style != second.style
    assert view.step_charts[0].chosen == (first.marks[1][:2],)
    assert view.steps[1][1][2:4] == ("0.1000", "0.1300")


def test_the_share_that_channels_took_stands_beside_the_share_that_was_asked_for():
    narrow = pruning(structure="channel", share=11.0)
    narrow.curve["left"] = [1000, 900, 800]
    says = pruning_view(narrow).sentences[1]
    assert "Each step should remove 11.0\xa0% of the remaining parameters" in says
    assert (
        "steps removed 10.0\xa0% to 10.0\xa0%" in says
    )  # without the last, cut short by the limit
    assert "Each step should remove" not in pruning_view(pruning()).sentences[1]


def test_luck_is_told_where_a_step_was_chosen():
    assert "No step was chosen" in " ".join(pruning_view(pruning(chosen=0)).luck)
    assert "with so few patients auc_gap is undefined" in " ".join(pruning_view(pruning()).luck)
    spans = {"chosen": [0.1, 0.0, 0.2], "confirmed": [0.13, 0.05, 0.2], "gain": [-0.02, -0.1, 0.1]}
    luck = {
        "metric": "auc_gap", "lower_is_better": True, "how": "resamples", "step": 1,
        "choosing": 30, "confirming": 0, "confirmed_gain": [0.01, -0.1, 0.1],
        "luck": [0.03, None, None], **spans,
    }  # fmt: skip
    first, second = pruning_view(pruning(luck=luck)).luck
    assert "Step 1 was chosen on all 30 validation patients" in first
    assert "The estimated luck of the choice is 0.030" in second
    older = pruning()
    without = older.record.model_dump(exclude={"luck", "share"})
    record = PruningRecord.model_validate(without)
    assert pruning_view(Pruning(older.curve, record)).luck == ()


def test_layers_say_what_they_lost():
    first, second = pruning_view(pruning()).layers
    assert (first.share, first.bar, first.saliency) == ("25.0\xa0%", 25.0, ("0.25", "0.5"))
    assert second.bar == 0


def test_each_number_of_a_layer_stands_by_group_and_by_whether_it_went():
    rows = {"parameter": "a.weight", "place": [3, 1, 2], "rank": [0.0, 0.5, 1.0]}
    sample = pd.DataFrame(
        {**rows, "change:old": [1e-9, 1e-6, 1e-3], "change:young": [1e-2, 0, -1e-3]}
    )
    whole = pruning_view(replace(pruning(), saliency=sample.assign(pruned=[1, 0, 0])))
    (chart,) = whole.saliency  # none of b.weight
    marks = {trace.name: trace for trace in chart.traces}
    assert list(marks) == ["old", "old, pruned", "young", "young, pruned"]
    assert [marks[name].hollow for name in marks] == [False, True, False, True]
    (first,) = marks["old, pruned"].marks
    above = marks["young, pruned"].marks[0]
    assert first[0] == above[0]
    assert above[1] < first[1]  # places grow downwards
    ups = [mark[1] for mark in (first, *marks["old"].marks)]
    assert ups == sorted(ups, reverse=True)
    (zero,) = [place for place, text in chart.y_ticks if text == "0"]
    nothing, below = marks["young"].marks
    assert nothing[1] == zero < below[1]
    assert "3 of 100 parameters; 25.0" in chart.caption
    (narrow,) = pruning_view(replace(pruning(), saliency=sample)).saliency  # channels
    assert [trace.name for trace in narrow.traces] == ["old", "young"]
    assert pruning_view(pruning()).saliency == ()  # an older run


def test_points_lie_on_the_side_of_their_sign():
    charts = pruning_view(pruning()).premise
    (zero,) = [place for place, text in charts[0].y_ticks if text == "0"]
    grows, shrinks = charts[0].traces[0].marks
    assert grows[1] < zero < shrinks[1]  # up is more error
    assert "Rank correlation 0.50 over 2 layers" in charts[0].caption
    assert "undefined" in charts[1].caption


def test_each_group_has_one_look_and_it_is_nobody_elses():
    view = pruning_view(pruning())
    fairness, accuracy = view.step_charts
    styles = {trace.name: trace.style for trace in accuracy.traces}
    assert list(styles) == ["everybody", "young", "old"]
    assert len({*styles.values()}) == 3
    assert {chart.title: chart.traces[0].style for chart in view.premise} == {
        group: styles[group] for group in ("old", "young")
    }
    assert fairness.traces[0].style == styles["everybody"]


def premise(layers: int, **correlation: float | None) -> dict[str, Any]:
    every = [layer(f"{k}.weight", 0, 1e-3, 2e-3) for k in range(layers)]
    return {"layers": every, "correlation": correlation, "samples": 128, "share": 0.3}


def test_a_rank_correlation_that_chance_gives_is_no_guide():
    """Against the limit of a permutation of 20 ranks, which chance passes in 5 of 100 cases."""
    rng = np.random.default_rng(0)
    drawn = np.array([np.corrcoef(np.arange(20), rng.permutation(20))[0, 1] for _ in range(4000)])
    limit = float(np.quantile(drawn, 0.95))
    above, below = limit + 0.02, limit - 0.02

    def says(old: float | None, young: float | None, layers: int = 20) -> str:
        return pruning_view(pruning(premise=premise(layers, young=young, old=old))).premise_caption

    weak = f"for old ({below:.2f}) is not above 0.38, which chance alone exceeds in 1 of 20"
    assert weak in says(below, above)
    assert "the saliency does not predict the effect" in says(below, above)
    assert "for young (\N{MINUS SIGN}0.31) and old (undefined) is not above" in says(None, -0.31)
    assert "The rank correlation of every group is above 0.38" in says(above, above)
    assert "does not predict the effect" not in says(above, above)
    assert "3 layers are too few to show" in says(1.0, 1.0, layers=3)


def test_zeros_are_said_to_save_no_time():
    view = pruning_view(pruning())
    assert "but not the model faster" in view.cost_caption
    assert view.costs[1][1:] == ("1,000", "10.0\xa0%", "4.00 MB", "3.00 MB", "2.0 ms")
    assert "Whole channels are removed" in pruning_view(pruning(structure="channel")).cost_caption
