"""The section on what methods fitted to a trained model."""

from __future__ import annotations

from evenhand.reporting.report import Report
from evenhand.reporting.section import PART, Part, section


@section("report", "adjusted", "What was adjusted", place=65, template=PART)
def adjusted_view(report: Report) -> Part | None:
    """Return the adjustments of a report; None where there are none."""
    return report.adjusted
