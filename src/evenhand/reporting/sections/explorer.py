"""Every group's rates at a threshold that the reader moves."""

from __future__ import annotations

from evenhand.reporting.charts.explorer import COLUMNS, Explorer, explorer
from evenhand.reporting.report import Report
from evenhand.reporting.section import section


@section("report", "explorer", "Explore the threshold", place=40, script="explorer.js")
def explorers(report: Report) -> dict[str, object]:
    """Return the tables of each model with its name; nothing without two classes."""
    tables: list[tuple[str, Explorer]] = [
        (model, explorer(samples.scored, samples.groups, samples.compared))
        for model, samples in report.samples_by_model
    ]
    return {"models": tables, "columns": COLUMNS} if tables else {}
