"""The section on intersections of attributes: the groups that are too small to compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evenhand.errors import count_text
from evenhand.evaluation.requests import why_too_small
from evenhand.evaluation.settings import GroupSettings
from evenhand.metrics import EVERYBODY
from evenhand.reporting.estimates import Estimate, find_rows
from evenhand.reporting.report import Report
from evenhand.reporting.section import PART, Part, Table, section
from evenhand.reporting.sections.strategies import metric_of_comparison
from evenhand.reporting.text.vocabulary import display_name
from evenhand.tables.attributes import UNKNOWN

COLUMNS = ("Group", "Attributes", "Samples", "Patients", "Positives", "Why")


@section(
    "report",
    "intersections",
    "Which intersections are too small to compare?",
    place=35,
    template=PART,
)
def intersections_view(report: Report) -> Part | None:
    """Return the intersections, and every group that is too small; None without intersections."""
    settings = report.record.settings if report.record else None
    if not isinstance(settings, GroupSettings) or settings.intersections < 2:
        return None
    crossed = [name for name in report.attributes if "*" in name and "|" not in name]
    rows = find_rows(
        report.single, model=report.main_model, base=metric_of_comparison(report.single)
    )
    groups = [row for row in rows if row.attribute in crossed and _is_group(row)]
    small = tuple(_small(groups))
    sentences = (
        f"{count_text(len(crossed), 'intersection')} of up to {settings.intersections} attributes, "
        f"with {count_text(len(groups), 'group')} that occur. p-values are corrected over these "
        "groups and all other comparisons of this page, so more groups need clearer differences.",
        f"{len(small)} of these groups are too small to compare; they take no part in gaps and "
        "verdicts.",
    )
    tables = (Table("Groups that are too small", COLUMNS, small),) if small else ()
    return Part(sentences=sentences, tables=tables)


def _is_group(row: Estimate) -> bool:
    return row.group not in (EVERYBODY, UNKNOWN) and row.aggregate is None


def _small(rows: Sequence[Estimate]) -> Iterator[tuple[str, ...]]:
    """Yield the groups that are left out, with their counts and the reason."""
    for row in rows:
        if not row.compared:
            why = why_too_small(row.patients, row.n, row.positives) or "left out by --exclude-group"
            positives = "–" if row.positives is None else f"{row.positives:,}"
            counts = (f"{row.n:,}", f"{row.patients:,}", positives)
            yield (display_name(row.group), display_name(row.attribute), *counts, why)
