"""What the networks of a benchmark reveal of the attributes, on the page."""

from __future__ import annotations

from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.reporting.charts.forest import Line, Look, forest
from evenhand.reporting.part import Part
from evenhand.reporting.section import PART, section
from evenhand.reporting.sections.probe import probe_estimate
from evenhand.reporting.text.numbers import PLAIN, Scale

CHANGE = Scale(signed=True)
PAIRED = "Paired by patient and seed; below 0, the network reveals less of the attribute."


@section("benchmark", "probe", "What the networks reveal", place=45, template=PART)
def probe_part(outcome: Outcome) -> Part | None:
    """Return the plots of the probes; None where there are none."""
    rows = outcome.record.probes
    if not rows:
        return None
    count = f"{max(row.patients for row in rows):,}"
    says = (
        "A new linear probe looks for the attribute in what the last layer of each network is "
        f"given of {count} test patients, one sample of each; in each fold it learns from other "
        "patients than those that it scores. Its AUC is over pairs with the same label, the mean "
        "over folds and seeds; 0.5 is chance. A network that reveals less of the attribute need "
        "not be fairer: the differences say that. Intervals are not corrected; nothing is claimed."
    )
    plots = []
    for attribute in dict.fromkeys(row.attribute for row in rows):
        own = [row for row in rows if row.attribute == attribute]
        values = Look(attribute, "AUC of the probe.", PLAIN, 0.5, "chance")
        plots.append(
            forest(
                [Line(row.model, probe_estimate(row)) for row in own if row.against is None], values
            )
        )
        if changes := [row for row in own if row.against is not None]:
            look = Look(f"{attribute}: change from {ERM}", PAIRED, CHANGE, 0.0, ERM)
            plots.append(forest([Line(row.model, probe_estimate(row)) for row in changes], look))
    return Part(sentences=(says,), plots=tuple(plots))
