"""The section on twins: the distances between their scores (``twins.json``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evenhand.evaluation.twins import TwinRow
from evenhand.metrics import EVERYBODY
from evenhand.reporting.charts.forest import Forest, Line, Look, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.part import Part
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.text.numbers import PLAIN, Scale, out_of_hundred
from evenhand.reporting.text.vocabulary import shown
from evenhand.wording import count_text

CHANGE = Scale(signed=True)
SAYS = "Mean distance of the scores of two twins; 0: the difference between twins moves no score."


@section("report", "twins", "Does a shortcut move the score?", place=64)
def twins_view(report: Report) -> Part | None:
    """Return plots of the distances, by group and by pair of models; None without twins."""
    if report.twins is None:
        return None
    rows = [_with_shown_names(row, report.called) for row in report.twins.rows]
    if not rows:
        return Part(sentences=tuple(report.twins.notes))
    everybody = next(row for row in rows if row.attribute == EVERYBODY)
    sentences = (
        f"{count_text(everybody.pairs, 'pair')} of twins (samples with the same value in the "
        f"column of pairs) from {count_text(everybody.patients, report.patient)}. Intervals are by "
        f"{report.patient}; they are not corrected, and no verdict rests on them.",
        *report.twins.notes,
    )
    return Part(sentences=sentences, plots=tuple(_plots(rows)))


def _plots(rows: Sequence[TwinRow]) -> Iterator[Forest]:
    values = [row for row in rows if row.against is None and row.reference is None]
    yield forest([_line(row) for row in values], Look("Everybody and groups", SAYS, PLAIN, 0.0))
    between = [row for row in rows if row.reference is not None]
    if between:
        look = Look("Group less the largest group", "", CHANGE, 0.0, "no difference")
        yield forest([_line(row) for row in between], look)
    changes = [row for row in rows if row.against is not None]
    if changes:
        says = "Paired by patient; below 0, the first model's scores move less."
        look = Look("Change from model to model", says, CHANGE, 0.0, "no change")
        yield forest([_line(row) for row in changes], look)


def _line(row: TwinRow) -> Line:
    estimate = Estimate(
        base="score",
        attribute=row.attribute,
        value=row.value,
        low=row.low,
        high=row.high,
        patients=row.patients,
        undefined=None if row.value is not None else "no twins",
    )
    group = "everybody" if row.attribute == EVERYBODY else f"{shown(row.attribute)}: {row.group}"
    name = group if row.reference is None else f"{group} less {row.reference}"
    note = count_text(row.pairs, "set")
    if row.decided_otherwise is not None:
        note += f", {out_of_hundred(row.decided_otherwise)} of 100 with different decisions"
    models = row.model if row.against is None else f"{row.model} less {row.against}"
    return Line(name, estimate, note=note, section=models)


def _with_shown_names(row: TwinRow, names: Mapping[str, str]) -> TwinRow:
    against = row.against and names.get(row.against, row.against)
    return row.model_copy(update={"model": names.get(row.model, row.model), "against": against})
