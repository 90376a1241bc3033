"""Aggregates over groups, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.metrics.aggregates import SUMMARIES, distance, spread
from evenhand.metrics.registry import find_metric

VALUES = np.array([[0.9], [0.6], [0.8]])


@pytest.mark.parametrize(
    ("metric", "aggregate", "expected"),
    [
        ("auc", "worst", 0.6),  # higher is better
        ("auc", "best", 0.9),
        ("brier", "worst", 0.9),  # lower is better
        ("brier", "best", 0.6),
        ("calibration_slope", "worst", 0.6),  # nearest to the ideal of 1 is better
        ("calibration_slope", "best", 0.9),
        ("auc", "gap", 0.3),
        ("auc", "min_ratio", 0.6 / 0.9),
    ],
)
def test_an_aggregate_of_three_groups(metric, aggregate, expected):
    (value,) = SUMMARIES[aggregate](VALUES, find_metric(metric))
    assert value == pytest.approx(expected)


@pytest.mark.parametrize("aggregate", ["worst", "best"])
def test_one_undefined_group_leaves_the_aggregate_undefined(aggregate):
    values = np.array([[0.9], [np.nan]])
    assert np.isnan(SUMMARIES[aggregate](values, find_metric("auc"))).all()


def test_resamples_take_the_groups_that_are_outermost_in_the_data():
    values = np.array([[0.9, 0.5], [0.6, 0.7], [0.8, 0.1]])  # the data first, then a resample
    assert spread(values).tolist() == pytest.approx([0.3, -0.2])


def test_a_distance_has_the_sign_of_the_side_where_the_data_lie():
    assert distance(np.array([-0.2, -0.3, 0.1])).tolist() == [0.2, 0.3, -0.1]
