from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from evenhand.metrics import find_target
from evenhand.reporting import Search
from evenhand.reporting.search_record import StudyRecord
from evenhand.reporting.sections.search import search_views

studied = StudyRecord.model_validate


def trials(**columns: list[Any]) -> pd.DataFrame:
    base = {
        "number": [0, 1, 2, 3],
        "state": ["complete", "pruned", "complete", "fail"],
        "auc": [0.70, 0.99, 0.75, None],
        "log_loss": [0.70, 0.99, 0.75, None],
        "auc_gap": [0.05, None, 0.10, None],
        "lr": [1e-4, 1e-5, 1e-3, None],
        "mask": ["a", "b", "c", "d"],
    }
    return pd.DataFrame(base | columns)


def objective(**more: float) -> dict[str, Any]:
    base = {"searched": 0.75, "again": [0.7, 0.72], "mean": 0.71, "mean_low": 0.6}
    ends = {"mean_high": 0.8, "optimism": 0.04, "optimism_low": -0.09, "optimism_high": 0.17}
    return base | ends | more


@pytest.mark.parametrize(("maximise", "best", "better"), [(True, 2, "higher"), (False, 0, "lower")])
def test_without_a_choice_the_best_finished_trial_is_it(
    maximise: bool, best: int, better: str
) -> None:
    (view,) = search_views(Search(trials(), [find_target("auc" if maximise else "log_loss")]))
    (history,) = view.histories
    assert [point.number for point in history.points if point.chosen] == [best]
    assert history.better == better
    assert (view.finished, view.pruned, view.repeated, view.failed) == (2, 1, 0, 1)


def test_the_trial_that_was_chosen_is_shown_as_such() -> None:
    (view,) = search_views(Search(trials(), [find_target("auc")], [StudyRecord(trial=0)]))
    assert [point.number for point in view.histories[0].points if point.chosen] == [0]


def test_line_of_the_best_so_far_jumps_at_the_better_trial_and_runs_to_the_end() -> None:
    (history,) = search_views(Search(trials(), [find_target("auc")]))[0].histories
    x = {point.number: point.x for point in history.points}
    y = {point.number: point.y for point in history.points}
    first, second = history.steps
    assert (first.x, first.until, first.y, first.y_next) == (x[0], x[2], y[0], y[2])
    assert (second.x, second.until, second.y, second.y_next) == (x[2], x[3], y[2], y[2])


def test_higher_values_are_higher_up_and_greater_rates_further_right() -> None:
    (history,) = search_views(Search(trials(), [find_target("auc")]))[0].histories
    low, pruned, high, failed = history.points
    assert (low.y or 0) > (high.y or 0) > (pruned.y or 0)
    assert (pruned.x_lr or 0) < (low.x_lr or 0) < (high.x_lr or 0)
    assert (failed.y, failed.x_lr) == (None, None)


def test_each_named_study_has_its_pictures_and_others_have_none() -> None:
    table = trials(study=["a", "b", "a", "a confirmed"])
    views = search_views(
        Search(table, [find_target("auc")], [StudyRecord(name="a"), StudyRecord(name="b")])
    )
    assert [(view.study, len(view.histories[0].points)) for view in views] == [("a", 2), ("b", 1)]


def test_no_trial_finished() -> None:
    table = trials(state=["fail"] * 4, auc=[None] * 4)
    (view,) = search_views(Search(table, [find_target("auc")]))
    assert view.histories[0].steps == ()
    assert not any(point.chosen for point in view.histories[0].points)


def test_a_repeat_names_the_trial_that_it_repeats_and_a_seed_where_it_comes_from() -> None:
    table = trials(
        state=["complete", "complete", "repeated", "complete"],
        repeats=[None, None, 0, None],
        origin=["full", "sampler", "sampler", "head"],
    )
    (view,) = search_views(Search(table, [find_target("auc")]))
    points = view.histories[0].points
    assert view.repeated == 1
    assert points[2].state == "repeats trial 0"
    assert [point.origin for point in points] == ["full", "", "", "head"]


def test_of_two_targets_the_better_trial_is_further_up_and_right_whichever_way_they_point() -> None:
    table = trials(pareto=[True, False, True, False])
    targets = [find_target("auc"), find_target("auc_gap")]
    (view,) = search_views(Search(table, targets, [StudyRecord(trial=2)]))
    assert len(view.histories) == 2
    (plot,) = view.tradeoffs
    dots = {dot.number: dot for dot in plot.dots}
    assert dots.keys() == {0, 2}  # trained to their ends
    assert dots[2].x > dots[0].x  # the higher AUC
    assert dots[0].y < dots[2].y  # the smaller gap is higher up
    assert dots[2].chosen
    assert search_views(Search(table, targets[:1]))[0].tradeoffs == ()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "trial 2 (the first of these) looked 0.040 better than with fresh seeds"),
        ({"optimism": -0.02}, "looked 0.020 worse than"),
        ({"optimism": None}, "diverged, so there is no mean"),
        ({"optimism_low": None}, "fresh seeds."),
    ],
)
def test_the_optimism_of_the_best_is_said(more: dict[str, float], says: str) -> None:
    confirmed = [
        {"trial": 2, "seeds": 2, "objectives": {"auc": objective(**more)}},
        {"trial": 0, "seeds": 2, "objectives": {"auc": objective(searched=0.7)}},
    ]
    study = {"name": "", "trial": 0, "confirmed": confirmed}
    (view,) = search_views(Search(trials(), [find_target("auc")], [studied(study)]))
    few, sentence = view.findings.optimism
    assert few.startswith("Two seeds give very wide intervals")
    assert says in sentence
    (plot,) = view.findings.confirmed
    assert [row.section for row in plot.rows][::2] == ["trial 2", "trial 0, chosen"]


def test_a_choice_of_another_study_marks_no_trial_of_its_own_and_is_named() -> None:
    confirmed = [
        {"study": "full", "trial": 2, "seeds": 2, "objectives": {"auc": objective()}},
        {"study": "a", "trial": 2, "seeds": 2, "objectives": {"auc": objective()}},
    ]
    chosen = {"study": "full", "trial": 2, "seed": 3}
    study = {"name": "a", "trial": None, "chosen": chosen, "confirmed": confirmed}
    (view,) = search_views(Search(trials(study=["a"] * 4), [find_target("auc")], [studied(study)]))
    assert not any(point.chosen for point in view.histories[0].points)
    assert view.findings.origin == "trial 2 of full"
    (plot,) = view.findings.confirmed
    assert [row.section for row in plot.rows][::2] == ["full, trial 2, chosen", "trial 2"]


def test_every_fit_of_the_choice_is_shown_and_their_mean() -> None:
    auc = [
        {"attribute": "*", "group": "*", "value": 0.8},
        {"attribute": "age", "group": "60+", "value": None},
    ]
    fits = [
        {"seed": seed, "val": {"auc": val}, "test": {"auc": val - 0.1}, "auc": auc}
        for seed, val in ((1, 0.7), (2, 0.9))
    ]
    study = {"name": "", "trial": 0, "chosen": {"study": "", "trial": 0, "seed": 2}, "fits": fits}
    (view,) = search_views(Search(trials(), [find_target("auc")], [studied(study)]))
    columns = ("auc, validation", "auc, test", "AUC of everyone, test", "AUC of age: 60+, test")
    assert view.findings.fit_columns == columns
    text = [(row.name, row.delivered, row.cells) for row in view.findings.fits]
    assert text == [
        ("seed 1", False, ("0.700", "0.600", "0.800", "undefined")),
        ("seed 2", True, ("0.900", "0.800", "0.800", "undefined")),
        ("mean", False, ("0.800", "0.700", "0.800", "undefined")),
    ]


def test_trials_that_a_baseline_trained_are_counted_and_named() -> None:
    (view,) = search_views(Search(trials(adopted=[5, None, None, None]), [find_target("auc")]))
    assert view.adopted == 1
    assert [point.adopted for point in view.histories[0].points] == [
        *("trial 5 of the baseline", "", "", "")
    ]


def test_units_are_shown_from_the_largest_difference_on() -> None:
    units = [
        {"unit": name, "objective": "auc", "difference": by, "low": by - 0.1, "high": by + 0.1}
        | {"with": 3, "without": 4}
        for name, by in (("a", 0.01), ("b", -0.05), ("c", 0.03))
    ]
    study = {"name": "", "trial": 0, "units": units}
    (view,) = search_views(Search(trials(), [find_target("auc")], [studied(study)]))
    (plot,) = view.findings.importance
    assert [row.name for row in plot.rows] == ["b", "c", "a"]
    assert plot.rows[0].note == "3 trials with, 4 without"


def test_a_bound_says_which_end_it_is() -> None:
    assert (
        find_target("auc_worst", pessimistic=True).label == "auc_worst (lower end of its interval)"
    )
    assert find_target("auc_gap", pessimistic=True).label == "auc_gap (upper end of its interval)"
