"""The section on probes: how well each layer of a model predicts an attribute (``probe.json``)."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.probe_record import ProbeRecord, ProbeRow
from evenhand.reporting.report import Report
from evenhand.reporting.section import PART, Part, section
from evenhand.reporting.text.vocabulary import PLAIN, SIGNED, display_name

CAPTION = "AUC of a new probe over pairs of patients with the same label."
CHANGE_CAPTION = (
    "Differences of two models, paired by patient; below 0, the first model's layer reveals less."
)


@section("report", "probe", "What do the layers reveal of the attribute?", place=63, template=PART)
def probe_view(report: Report) -> Part | None:
    """Return the plots of a report's probes; None if nothing was probed."""
    if report.probe is None:
        return None
    rows = report.probe.rows
    plots = [
        plot
        for attribute in dict.fromkeys(row.attribute for row in rows)
        for plot in _plots(
            display_name(attribute), [row for row in rows if row.attribute == attribute], report
        )
    ]
    return Part(sentences=_sentences(report.probe, report), plots=tuple(plots))


def _plots(attribute: str, rows: Sequence[ProbeRow], report: Report) -> list[Forest]:
    """Return a plot of the AUCs of an attribute, and a plot of their differences, if any."""
    frame = ForestFrame(attribute, CAPTION, PLAIN, 0.5, "chance")
    change_frame = ForestFrame(
        f"{attribute}: change of this AUC", CHANGE_CAPTION, SIGNED, 0.0, "no change"
    )
    values = [_entry(row, report) for row in rows if row.against is None]
    changes = [_entry(row, report) for row in rows if row.against is not None]
    return [forest(values, frame), *([forest(changes, change_frame)] if changes else [])]


def _entry(row: ProbeRow, report: Report) -> ForestEntry:
    models = report.shown_models(row.model, row.against)
    return ForestEntry(row.layer, probe_estimate(row), section=models)


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


def _sentences(record: ProbeRecord, report: Report) -> tuple[str, ...]:
    most = max((row.patients for row in record.rows), default=0)
    return (
        f"A new linear probe predicts the attribute from the output of each layer, on {most:,} "
        f"{record.split} {report.patients} with one sample each. It is trained on other "
        f"{report.patients} than those that it scores. 0.5 is chance; “head input” is the input of "
        "the last layer.",
        "A model need not use an attribute that its layers reveal. A model whose layers reveal "
        "less is not necessarily fairer: the gaps between groups show fairness. Intervals are not "
        "corrected for the number of layers, and no verdict rests on them.",
        *record.notes,
    )
