"""Scatter plots: places from the top left, axes from 0, one style per series."""

from __future__ import annotations

import pytest

from evenhand.reporting.charts.linear_axis import PlotFrame
from evenhand.reporting.charts.scatter import Point, scatter
from evenhand.reporting.text.vocabulary import PERCENT

FRAME = PlotFrame("Deviation", "", "share", "distance")


def test_greater_values_lie_further_right_and_higher_up():
    plot = scatter([Point("a", "low", 0.1, 0.01), Point("b", "high", 0.6, 0.05)], FRAME, PERCENT)
    low, high = plot.dots
    assert low.x < high.x
    assert low.y > high.y
    assert (low.style, high.style) == (0, 1)
    assert plot.series == ("a", "b")


def test_axes_begin_at_0_and_ticks_stand_where_their_values_do():
    plot = scatter([Point("a", "only", 0.4, 0.2)], FRAME, PERCENT)
    (dot,) = plot.dots
    across, up = (
        {float(text.removesuffix("\N{NO-BREAK SPACE}%")): place for place, text in ticks}
        for ticks in (plot.x_ticks, plot.y_ticks)
    )
    assert min(across) == min(up) == 0
    assert dot.x == pytest.approx(across[40])
    assert dot.y == pytest.approx(up[0.2])
    assert dot.text == "only, a: 40.0\N{NO-BREAK SPACE}%, 0.200"


def test_no_points_are_no_dots():
    assert scatter([], FRAME, PERCENT).dots == ()
