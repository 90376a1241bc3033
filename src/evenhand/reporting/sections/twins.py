"""The section on twins: the distances between their scores (``twins.json``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evenhand.errors import count_text
from evenhand.evaluation.twins import TwinRow
from evenhand.metrics import EVERYBODY
from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.report import Report
from evenhand.reporting.section import PART, Part, section
from evenhand.reporting.text.vocabulary import PLAIN, SIGNED, display_name, out_of_hundred

CAPTION = (
    "Mean distance of the scores of two twins; 0: the difference between twins moves no score."
)
PAIRED = "Paired by patient; below 0, the first model's scores move less."


@section("report", "twins", "Does a shortcut move the score?", place=64, template=PART)
def twins_view(report: Report) -> Part | None:
    """Return plots of the distances, by group and by pair of models; None without twins."""
    if report.twins is None:
        return None
    rows = report.twins.rows
    if not rows:
        return Part(sentences=tuple(report.twins.notes))
    everybody = next(row for row in rows if row.attribute == EVERYBODY)
    sentences = (
        f"{count_text(everybody.pairs, 'pair')} of twins (samples with the same value in the "
        f"column of pairs) from {count_text(everybody.patients, report.patient)}. Intervals are by "
        f"{report.patient}; they are not corrected, and no verdict rests on them.",
        *report.twins.notes,
    )
    return Part(sentences=sentences, plots=tuple(_plots(rows, report)))


def _plots(rows: Sequence[TwinRow], report: Report) -> Iterator[Forest]:
    values = [row for row in rows if row.against is None and row.reference is None]
    between_groups = [row for row in rows if row.reference is not None]
    changes = [row for row in rows if row.against is not None]
    less_largest = ForestFrame("Group less the largest group", "", SIGNED, 0.0, "no difference")
    for plot_rows, frame in (
        (values, ForestFrame("Everybody and groups", CAPTION, PLAIN, 0.0)),
        (between_groups, less_largest),
        (changes, ForestFrame("Change from model to model", PAIRED, SIGNED, 0.0, "no change")),
    ):
        if plot_rows:
            yield forest([_entry(row, report) for row in plot_rows], frame)


def _entry(row: TwinRow, report: Report) -> ForestEntry:
    estimate = Estimate(
        base="score",
        attribute=row.attribute,
        value=row.value,
        low=row.low,
        high=row.high,
        patients=row.patients,
        undefined=None if row.value is not None else "no twins",
    )
    group = (
        "everybody" if row.attribute == EVERYBODY else f"{display_name(row.attribute)}: {row.group}"
    )
    name = group if row.reference is None else f"{group} less {row.reference}"
    note = count_text(row.pairs, "set")
    if row.decided_otherwise is not None:
        note += f", {out_of_hundred(row.decided_otherwise)} of 100 with different decisions"
    models = report.shown_models(row.model, row.against)
    return ForestEntry(name, estimate, note=note, section=models)
