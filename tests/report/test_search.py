from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from evenhand.report import Search
from evenhand.report.search import search_views


def trials(**columns: list[Any]) -> pd.DataFrame:
    base = {
        "number": [0, 1, 2, 3],
        "state": ["COMPLETE", "PRUNED", "COMPLETE", "FAIL"],
        "value": [0.70, 0.99, 0.75, None],
        "lr": [1e-4, 1e-5, 1e-3, None],
        "mask": ["a", "b", "c", "d"],
    }
    return pd.DataFrame(base | columns)


@pytest.mark.parametrize(("maximise", "best", "better"), [(True, 2, "higher"), (False, 0, "lower")])
def test_best_is_a_finished_trial(maximise: bool, best: int, better: str) -> None:
    (view,) = search_views(Search(trials(), "goal", maximise=maximise))
    assert [point.number for point in view.points if point.best] == [best]
    assert view.better == better
    assert (view.finished, view.pruned, view.failed) == (2, 1, 1)


def test_line_of_the_best_so_far_jumps_at_the_better_trial_and_runs_to_the_end() -> None:
    (view,) = search_views(Search(trials(), "goal"))
    x = {point.number: point.x for point in view.points}
    y = {point.number: point.y for point in view.points}
    first, second = view.steps
    assert (first.x, first.until, first.y, first.y_next) == (x[0], x[2], y[0], y[2])
    assert (second.x, second.until, second.y, second.y_next) == (x[2], x[3], y[2], y[2])


def test_higher_values_are_higher_up_and_greater_rates_further_right() -> None:
    (view,) = search_views(Search(trials(), "goal"))
    low, pruned, high, failed = view.points
    assert (low.y or 0) > (high.y or 0) > (pruned.y or 0)
    assert (pruned.x_lr or 0) < (low.x_lr or 0) < (high.x_lr or 0)
    assert (failed.y, failed.x_lr) == (None, None)


def test_each_study_has_its_picture() -> None:
    views = search_views(Search(trials(study=["a", "b", "a", "b"]), "goal"))
    assert [(view.study, len(view.points)) for view in views] == [("a", 2), ("b", 2)]


def test_no_trial_finished() -> None:
    (view,) = search_views(Search(trials(state=["FAIL"] * 4, value=[None] * 4), "goal"))
    assert view.steps == ()
    assert not any(point.best for point in view.points)
