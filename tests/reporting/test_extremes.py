from __future__ import annotations

from dataclasses import replace

import pytest

from evenhand.reporting.estimates import Estimate, extremes, is_unknown

ROW = Estimate(
    model="m", split="test", attribute="age", group="a", base="auc", value=0.7, low=0.65,
    high=0.75, level=0.95, n=100, patients=90, positives=30,
)  # fmt: skip


def groups(**values: float | None) -> list[Estimate]:
    return [replace(ROW, group=name, value=value) for name, value in values.items()]


def test_worst_is_lowest_or_highest_as_the_metric_has_it() -> None:
    rows = groups(a=0.7, b=0.9, c=0.8)
    result = extremes(rows, "auc")
    assert result
    assert (result.worst.group, result.best.group, result.groups) == ("a", "b", 3)
    result = extremes([replace(row, base="log_loss") for row in rows], "log_loss")
    assert result
    assert (result.worst.group, result.best.group) == ("b", "a")


def test_unknown_and_undefined_groups_take_no_part() -> None:
    result = extremes(groups(a=0.7, unknown=0.1, b=0.9, c=None), "auc")
    assert result
    assert (result.worst.group, result.groups) == ("a", 2)
    assert extremes(groups(a=0.7, unknown=0.1, c=None), "auc") is None


def test_a_group_that_the_measurement_excluded_is_not_the_worst() -> None:
    left_out, *others = groups(excluded=0.2, a=0.7, b=0.9)
    left_out = replace(left_out, compared=False)
    result = extremes([left_out, *others], "auc")
    assert result
    assert (result.worst.group, result.groups) == ("a", 2)
    assert extremes([left_out, others[0]], "auc") is None


def test_equal_groups_and_metrics_without_direction_have_no_worst() -> None:
    assert extremes(groups(a=0.7, b=0.7), "auc") is None
    rows = [replace(row, base="selection_rate") for row in groups(a=0.7, b=0.9)]
    assert extremes(rows, "selection_rate") is None


@pytest.mark.parametrize(
    ("p", "approximate", "apart"),
    [
        (0.06, None, False),
        (0.05, None, True),
        (0.01, "22 patients", False),
        (None, None, False),
    ],
)
def test_apart_is_judged_by_the_corrected_p_value(
    p: float | None, approximate: str | None, apart: bool
) -> None:
    """An interval clear of 0 is no claim, nor is anything that is only approximate."""
    gap = replace(ROW, group="*", base="auc", aggregate="gap", value=0.2, low=0.1, high=0.3)
    gap = replace(gap, p_adjusted=p, approximate=approximate)
    result = extremes([*groups(a=0.7, b=0.9), gap], "auc")
    assert result
    assert result.differs is apart


def test_without_a_gap_nothing_is_apart() -> None:
    result = extremes(groups(a=0.7, b=0.9), "auc")
    assert result
    assert not result.differs


def test_unknown_in_any_part_of_an_intersection() -> None:
    assert is_unknown("unknown*60+")
    assert is_unknown("unknown")
    assert not is_unknown("female*60+")
