"""The threshold explorer: the rates of each group at a threshold that the reader chooses."""

from __future__ import annotations

from evenhand.reporting.charts.explorer import COLUMNS, Explorer, explorer
from evenhand.reporting.report import Report
from evenhand.reporting.section import section


@section("report", "explorer", "Explore the threshold", place=40, script="explorer.js")
def explorers(report: Report) -> dict[str, object]:
    """Return the explorer of each model; empty for more than two classes."""
    tables: list[tuple[str, Explorer]] = [
        (model, explorer(samples.scored, samples.groups, samples.compared))
        for model, samples in report.samples_by_model
    ]
    return {"models": tables, "columns": COLUMNS} if tables else {}
