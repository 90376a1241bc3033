"""The sections on scores by group: their curves and distributions, and the threshold explorer."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.reporting.charts.curves import ScoreView, score_views
from evenhand.reporting.charts.explorer import COLUMNS, Explorer, explorer
from evenhand.reporting.report import Report
from evenhand.reporting.section import section


@section("report", "scores", "Scores by group", place=30)
def scores_by_group(report: Report) -> list[tuple[str, Sequence[ScoreView]]]:
    """Return the charts of each model with its name."""
    return [
        (model, score_views(samples.scored, samples.groups, report.positive))
        for model, samples in report.samples_by_model
    ]


@section("report", "explorer", "Explore the threshold", place=40, script="explorer.js")
def explorers(report: Report) -> dict[str, object]:
    """Return the explorer of each model; empty for more than two classes."""
    tables: list[tuple[str, Explorer]] = [
        (model, explorer(samples.scored, samples.groups, samples.compared))
        for model, samples in report.samples_by_model
    ]
    return {"models": tables, "columns": COLUMNS} if tables else {}
