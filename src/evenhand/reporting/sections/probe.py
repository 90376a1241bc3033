"""The section on probes: how well each layer of a model predicts an attribute (``probe.json``)."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.reporting.charts.forest import Forest, Line, Look, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.part import Part
from evenhand.reporting.probe_record import ProbeRecord, ProbeRow
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.text.numbers import PLAIN, Scale
from evenhand.reporting.text.vocabulary import shown

CHANGE = Scale(signed=True)
SAYS = "AUC of a new probe over pairs of patients with the same label."


@section("report", "probe", "What do the layers reveal of the attribute?", place=63)
def probe_view(report: Report) -> Part | None:
    """Return the plots of a report's probes; None if nothing was probed."""
    if report.probe is None:
        return None
    rows = [_with_shown_names(row, report.called) for row in report.probe.rows]
    return Part(sentences=_sentences(report.probe, report), plots=tuple(probe_plots(rows)))


def probe_plots(rows: Sequence[ProbeRow]) -> list[Forest]:
    """Return for each attribute a plot of the AUCs, and a plot of the differences if there are."""
    plots = []
    for attribute in dict.fromkeys(row.attribute for row in rows):
        attribute_rows = [row for row in rows if row.attribute == attribute]
        values = [row for row in attribute_rows if row.against is None]
        changes = [row for row in attribute_rows if row.against is not None]
        plots.append(_plot(values, Look(shown(attribute), SAYS, PLAIN, 0.5, "chance")))
        if changes:
            says = "Paired by patient; below 0, the layer reveals less of the attribute."
            look = Look(f"{shown(attribute)}: change of this AUC", says, CHANGE, 0.0, "no change")
            plots.append(_plot(changes, look))
    return plots


def _plot(rows: Sequence[ProbeRow], look: Look) -> Forest:
    return forest([_line(row) for row in rows], look)


def _line(row: ProbeRow) -> Line:
    models = row.model if row.against is None else f"{row.model} less {row.against}"
    return Line(row.layer, probe_estimate(row), section=models)


def probe_estimate(row: ProbeRow) -> Estimate:
    """Return the AUC of a probe, or a difference of AUCs, as an estimate."""
    return Estimate(
        base="auc",
        attribute=row.attribute,
        value=row.value,
        low=row.low,
        high=row.high,
        n=row.n,
        patients=row.patients,
        undefined=row.undefined,
    )


def _with_shown_names(row: ProbeRow, names: dict[str, str]) -> ProbeRow:
    against = row.against and names.get(row.against, row.against)
    return row.model_copy(update={"model": names.get(row.model, row.model), "against": against})


def _sentences(record: ProbeRecord, report: Report) -> tuple[str, ...]:
    most = max((row.patients for row in record.rows), default=0)
    return (
        f"A new linear probe predicts the attribute from the output of each layer, on {most:,} "
        f"{record.split} {report.patients} with one sample each. It is trained on other "
        f"{report.patients} than those that it scores. 0.5 is chance; “head input” is the input of "
        "the last layer.",
        "A model need not use an attribute that its layers reveal, and a model that reveals it "
        "less need not be fairer; the gaps show fairness. Intervals are not corrected for the "
        "number of layers, and no verdict rests on them.",
        *record.notes,
    )
