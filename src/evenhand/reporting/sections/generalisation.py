"""The section on generalisation: each model on training, validation and test patients."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.metrics import EVERYBODY
from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.estimates import Estimate, find_rows, names
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.sections.strategies import SUMMED_UP, forest_frame, metric_of_comparison
from evenhand.tables.predictions import SPLITS

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


@section("report", "generalisation", "Does fairness generalise?", place=60)
def generalisation_view(report: Report) -> tuple[Forest, ...]:
    """Lay out the splits of a report side by side; empty if there is only one split."""
    return generalisation(report.estimates, report.attributes)


def generalisation(rows: Sequence[Estimate], attributes: Sequence[str]) -> tuple[Forest, ...]:
    """Lay out gap and worst group on each split side by side; empty if there is only one split."""
    single = [row for row in rows if not row.against]
    if len(names(single, "split")) < 2:
        return ()
    metric = metric_of_comparison(single)
    wanted = [(EVERYBODY, None), *((name, kind) for name in attributes for kind in SUMMED_UP)]
    plots = (
        _by_split(find_rows(single, attribute=name, group=EVERYBODY, base=metric, aggregate=kind))
        for name, kind in wanted
    )
    return tuple(plot for plot in plots if plot.rows)


def _by_split(rows: Sequence[Estimate]) -> Forest:
    """Draw a number on each split, model by model."""
    entries = [
        ForestEntry(
            SPLIT_NAMES.get(row.split, row.split),
            row,
            kind="chosen" if row.split == "test" else "other",
            section=model,
        )
        for model in names(rows, "model")
        for row in sorted(find_rows(rows, model=model), key=_split_order)
    ]
    if not rows:
        return forest((), ForestFrame(""))
    return forest(entries, forest_frame(rows[0].attribute, rows[0].base, rows[0].aggregate))


def _split_order(row: Estimate) -> int:
    return SPLITS.index(row.split) if row.split in SPLITS else len(SPLITS)
