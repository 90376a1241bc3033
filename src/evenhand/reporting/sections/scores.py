"""The section on scores by group: ROC, precision–recall, calibration, distribution, net benefit."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.reporting.charts.curves import ScoreView, score_views
from evenhand.reporting.report import Report
from evenhand.reporting.section import section


@section("report", "scores", "Scores by group", place=30)
def scores_by_group(report: Report) -> list[tuple[str, Sequence[ScoreView]]]:
    """Return the charts of each model with its name."""
    return [
        (model, score_views(samples.scored, samples.groups, report.positive))
        for model, samples in report.samples_by_model
    ]
