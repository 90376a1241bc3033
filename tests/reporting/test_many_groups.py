"""Pages of very many groups: what is drawn, and how rows are looked up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evenhand.metrics import (
    MetricRow,
    Plan,
    RowNames,
    as_scored,
    as_table,
    groups_of,
    judge,
    measure,
    measure_part,
)
from evenhand.reporting.charts.curves import score_views
from evenhand.reporting.charts.explorer import explorer
from evenhand.reporting.estimates import Estimates, estimates, find_rows
from evenhand.reporting.page import render
from evenhand.reporting.report import Report
from evenhand.reporting.sections.groups import DRAWN, group_view
from evenhand.reporting.terminal import GROUPS, print_table

MANY = 60


@pytest.fixture(scope="module")
def measured() -> tuple:
    """60 groups of 30 samples; group g07 has no positives."""
    rng = np.random.default_rng(0)
    names = np.array([f"g{number:02d}" for number in range(MANY)])
    group = np.repeat(names, 30)
    labels = rng.integers(0, 2, len(group))
    labels[group == "g07"] = 0
    samples = as_scored(labels, rng.uniform(0, 1, len(group)))
    levels = groups_of(group)
    plan = Plan(metrics=("auc", "accuracy", "log_loss"), across=("worst", "gap", "difference"))
    names = RowNames("model", split="test")
    rng = np.random.default_rng(1)
    part = measure_part(samples, {"site": levels}, plan, rng=rng, names=names)
    return samples, levels, judge([part])


def view_of(rows: list[MetricRow]):
    return group_view(estimates(rows), "model", "site", "positive")


def values_of(metric_rows: list[MetricRow], metric: str) -> pd.Series:
    rows = as_table(metric_rows)
    return rows[(rows["metric"] == metric) & (rows["group"] != "*")].set_index("group")["value"]


@pytest.mark.parametrize(("metric", "sign"), [("auc", 1), ("log_loss", -1)])
def test_each_picture_shows_the_groups_that_its_metric_is_worst_in(measured, metric, sign):
    view = view_of(measured[2])
    plots = (*view.leading, *view.further)
    plot = plots[view.columns.index({"auc": "AUC", "log_loss": "Log-loss"}[metric])]
    worst = (sign * values_of(measured[2], metric)).sort_values(kind="stable").index[:DRAWN]
    assert [row.name for row in plot.rows] == ["everyone", *worst]
    assert "60 groups; each picture shows the 20" in view.folded


def test_the_table_has_all_groups_and_differences_the_largest(measured):
    view = view_of(measured[2])
    assert len(view.table) == 1 + MANY
    assert {row.name for row in view.table} == {"everyone", *measured[1].levels}
    largest = (
        (-values_of(measured[2], "accuracy_difference").abs()).sort_values(kind="stable").index
    )
    (plot,) = (plot for plot in view.differences if plot.title.startswith("Accuracy"))
    assert {row.name.split(" − ")[0] for row in plot.rows} == set(largest[:DRAWN])


def test_few_groups_are_all_drawn(measured):
    shown = {"*", *measured[1].levels[:DRAWN]}
    few = [row for row in measured[2] if row.group in shown]
    view = view_of(few)
    assert view.folded == ""
    assert all(len(plot.rows) == 1 + DRAWN for plot in view.leading)


def test_undefined_numbers_name_a_few_groups(measured):
    samples, levels, _ = measured
    nobody = as_scored(np.zeros(len(samples.labels)), samples.scores)
    plan = Plan(metrics=("auc",), across=("gap",))
    rows = measure(nobody, {"site": levels}, plan, rng=np.random.default_rng(0))
    (reason,) = rows.loc[rows["metric"] == "auc_gap", "undefined"]
    assert reason.startswith("group 'g00': no positives among 30 samples; group 'g01'")
    assert reason.endswith("; and 55 more groups")


def test_the_terminal_shows_the_worst_groups_and_short_cells(measured):
    rows = as_table(measured[2])
    rows.loc[rows["group"] == "g07", "undefined"] = "no positives " * 2000
    text = print_table(rows)
    lines = text.splitlines()
    assert max(map(len, lines)) < 200
    assert (
        lines[-1]
        == f"… and {MANY - GROUPS} more groups; metrics.json and the report list all of them"
    )
    worst = values_of(measured[2], "auc").sort_values().index[:GROUPS]
    shown = {line.split("site: ")[1].split()[0] for line in lines if "site: g" in line}
    assert shown == set(worst)


def test_curves_and_the_explorer_take_the_largest_groups(measured):
    samples, levels, _ = measured
    size = np.r_[np.arange(MANY) + 10]
    group = np.repeat(levels.levels, size)[: len(samples.labels)]
    sized = groups_of(group)
    rows = samples.take(np.arange(len(group)))
    largest = pd.Series(group).value_counts().index
    table = explorer(rows, {"site": sized}, {"site": sized.levels}).tables[0]
    assert {count.name for count in table.counts} <= {"everyone", *largest[: DRAWN + 1]}
    assert len(table.counts) == 1 + DRAWN
    assert "The 20 groups with the most samples are shown" in table.left_out
    (view,) = score_views(rows, {"site": sized}, "positive")
    assert {distribution.name for distribution in view.distributions} <= set(largest[:9])


def test_the_page_of_many_groups_is_a_page(measured):
    page = render(Report("Many", measured[2], ("site",)))
    assert page.count("g59") >= 1
    assert "each picture shows the 20 groups with the worst values" in page


def test_rows_are_looked_up_without_a_scan(measured, monkeypatch):
    """A lookup by fields that were asked for before touches no row but those that it returns."""
    rows = estimates(measured[2])
    wanted = {"group": "g03", "metric": "auc"}
    result = find_rows(rows, **wanted)
    assert result == tuple(r for r in rows if r.group == "g03" and r.metric == "auc") != ()
    monkeypatch.setattr(Estimates, "__iter__", None)
    assert find_rows(rows, group="g04", metric="auc")[0].group == "g04"
    assert len(find_rows(rows, group="nobody", metric="auc")) == 0


def test_rows_of_every_level_are_those_of_a_mask():
    rng = np.random.default_rng(0)
    levels = groups_of(rng.choice(list("cab"), 50)).without({"b"})
    for level in levels.levels:
        wanted = np.flatnonzero(levels.codes == levels.levels.index(level))
        assert levels.rows(level).tolist() == wanted.tolist()


def test_the_terminal_says_why_a_number_has_no_interval():
    why = "the same in every resample"
    row = MetricRow(
        model="m", split="test", attribute="*", group="*", base="auc", value=0.0, no_interval=why
    )
    assert f"none: {why}" in print_table(as_table([row]))
