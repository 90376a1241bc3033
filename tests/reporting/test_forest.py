from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.reporting.charts.forest import ForestEntry, ForestFrame, forest
from evenhand.reporting.charts.linear_axis import axis_over
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.text.vocabulary import PERCENT, Scale

ROW = Estimate(
    model="m", split="test", attribute="age", group="60+", base="auc", value=0.7, low=0.6,
    high=0.75, level=0.95, n=100, patients=90, positives=30,
)  # fmt: skip


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_axis_holds_every_value_and_few_round_ticks(values: list[float]) -> None:
    axis = axis_over(values)
    assert axis.low < min(values) <= max(values) < axis.high
    assert 1 <= len(axis.ticks) <= 6
    places = [axis.position(tick) for tick in axis.ticks]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 100


def test_labels_stay_within_what_the_metric_can_be() -> None:
    plot = forest(
        [ForestEntry("a", replace(ROW, value=1.0, low=1.0, high=1.0))],
        ForestFrame("t", limits=(0, 1)),
    )
    assert [text for _, text in plot.ticks] == ["0.950", "0.975", "1.000"]


def test_labels_have_just_enough_decimals() -> None:
    plot = forest([ForestEntry("a", replace(ROW, low=0.61, high=0.84))], ForestFrame("t"))
    assert [text for _, text in plot.ticks] == ["0.6", "0.7", "0.8"]
    plot = forest([ForestEntry("a", replace(ROW, low=0.66, high=0.72))], ForestFrame("t"))
    assert [text for _, text in plot.ticks] == ["0.66", "0.68", "0.70", "0.72"]
    plot = forest(
        [ForestEntry("a", replace(ROW, low=0.61, high=0.84))], ForestFrame("t", scale=PERCENT)
    )
    assert [text for _, text in plot.ticks] == ["60", "70", "80"]


def test_places_are_in_proportion() -> None:
    (row,) = forest([ForestEntry("a", ROW)], ForestFrame("t")).rows
    assert row.x is not None and row.x_low is not None and row.x_high is not None  # noqa: PT018
    assert (row.x - row.x_low) / (row.x_high - row.x_low) == pytest.approx(2 / 3, abs=1e-3)
    assert (row.value, row.interval) == ("0.700", "0.600 to 0.750")


def test_undefined_rows_have_no_place_and_do_not_stretch_the_axis() -> None:
    gone = replace(ROW, value=None, low=0.0, high=0.0, undefined="no positives among 4 samples")
    plot = forest([ForestEntry("a", ROW), ForestEntry("b", gone)], ForestFrame("t"))
    assert plot.axis == forest([ForestEntry("a", ROW)], ForestFrame("t")).axis
    assert (plot.rows[1].x, plot.rows[1].value, plot.rows[1].interval) == (None, "", "")
    assert plot.rows[1].reason == "no positives among 4 samples"


def test_the_reference_is_on_the_axis() -> None:
    plot = forest([ForestEntry("a", ROW)], ForestFrame("t", reference=0.0, reference_name="none"))
    assert plot.axis.low < 0
    assert plot.reference == plot.axis.position(0.0)
    assert (
        forest([ForestEntry("a", ROW)], ForestFrame("t", reference_name="none")).reference_name
        == ""
    )


def test_differences_have_signs() -> None:
    show = Scale(signed=True)
    assert [show.text(value) for value in (0.04, -0.04, 0.0001, -0.0001)] == [
        "+0.040", "−0.040", "0.000", "0.000",
    ]  # fmt: skip
