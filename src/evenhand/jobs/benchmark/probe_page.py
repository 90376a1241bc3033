"""The section of the report about probes of the entries' networks."""

from __future__ import annotations

from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.reporting.charts.forest import ForestEntry, ForestFrame, forest
from evenhand.reporting.part import Part
from evenhand.reporting.section import PART, section
from evenhand.reporting.sections.probe import probe_estimate
from evenhand.reporting.text.numbers import PLAIN, SIGNED

PAIRED = "Paired by patient and seed; below 0, the network reveals less about the attribute."


@section("benchmark", "probe", "What the networks reveal", place=45, template=PART)
def probe_part(outcome: Outcome) -> Part | None:
    """Return the section about probes; None without ``--probe``."""
    rows = outcome.record.probes
    if not rows:
        return None
    count = f"{max(row.patients for row in rows):,}"
    sentence = (
        "A linear probe predicts the attribute from the inputs of the last layer of each network, "
        f"for {count} test patients with one sample each; in each fold it is trained on other "
        "patients than those that it scores. Its AUC is over pairs of samples with the same label, "
        "as mean over folds and seeds; 0.5 is chance. A network that reveals less about the "
        "attribute is not necessarily fairer: see the differences of the entries. Intervals are "
        "not corrected, and no claim rests on them."
    )
    plots = []
    for attribute in dict.fromkeys(row.attribute for row in rows):
        values = [row for row in rows if row.attribute == attribute and row.against is None]
        changes = [row for row in rows if row.attribute == attribute and row.against is not None]
        frame = ForestFrame(attribute, "AUC of the probe.", PLAIN, 0.5, "chance")
        plots.append(forest([ForestEntry(row.model, probe_estimate(row)) for row in values], frame))
        if changes:
            frame = ForestFrame(f"{attribute}: change from {ERM}", PAIRED, SIGNED, 0.0, ERM)
            plots.append(
                forest([ForestEntry(row.model, probe_estimate(row)) for row in changes], frame)
            )
    return Part(sentences=(sentence,), plots=tuple(plots))
