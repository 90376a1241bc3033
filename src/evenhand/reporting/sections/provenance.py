"""The section on provenance: the record of a run as tables, and the decision thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evenhand.experiments.records import RunRecord
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.text.vocabulary import duration
from evenhand.settings import Settings


@dataclass(frozen=True)
class Facts:
    """A table of names and values."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Provenance:
    """The record of a run, the decision threshold of each model, and the rule if it is here."""

    facts: tuple[Facts, ...]
    thresholds: tuple[tuple[str, float], ...] = ()
    rule: str = ""


SHOWN_ELSEWHERE = {
    *("job", "chosen", "seed", "fingerprint", "schema_version"),  # they come first
    *("settings", "versions", "seconds", "parent"),  # they have separate tables
    *("status", "answer"),  # the status is not final yet; the answer is at the top of the page
}
"""Fields of the record that the table of other fields leaves out."""


EVALUATION = "evaluation"
"""The phase that writes the page. Its duration is left out, as the first page cannot have it."""


@section("report", "provenance", "Settings and provenance", place=110)
def provenance(report: Report) -> Provenance | None:
    """Return the provenance of a report, None if nothing is known."""
    facts = fact_tables(report.record) if report.record else ()
    pairs = [(row.model, row.threshold) for row in report.single]
    thresholds = dict.fromkeys(
        (name, threshold) for name, threshold in pairs if threshold is not None
    )
    rule = "" if report.names_thresholds else report.threshold_rule  # it is below the answers
    return Provenance(facts, tuple(thresholds), rule) if facts or thresholds or rule else None


def fact_tables(record: RunRecord[Settings]) -> tuple[Facts, ...]:
    """Return the record of a run as tables."""
    first = {
        "job": record.job,
        "chosen": record.chosen,
        "seed": record.seed,
        "fingerprint": record.fingerprint,
        "schema": record.schema_version,
    }
    others = record.model_dump(mode="json", exclude_unset=True, exclude=SHOWN_ELSEWHERE)
    parents = [ancestor.parent for ancestor in record.lineage() if ancestor.parent is not None]
    if parents:
        action = {"prune": "pruned", "adjust": "adjusted"}.get(record.job, "started from")
        others |= {action: f"{parents[0].model} of {parents[0].run}"}
    run = {name: value for name, value in first.items() if value is not None} | others
    tables = [
        ("Run", _pairs(run)),
        ("Settings", _pairs(record.settings.recorded())),
        *(
            (f"Settings of {ancestor.run}", _pairs(ancestor.record.settings.recorded()))
            for ancestor in parents
        ),
        ("Versions", _pairs(record.versions)),
        ("Time", tuple((n, duration(s)) for n, s in record.seconds.items() if n != EVALUATION)),
    ]
    return tuple(Facts(title, rows) for title, rows in tables if rows)


def _pairs(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(pair for name, value in values.items() for pair in _flat(name, value))


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """Return name and text of a value; a mapping has a pair for each entry, with a dotted name."""
    if isinstance(value, Mapping):
        return [pair for key, entry in value.items() for pair in _flat(f"{name}.{key}", entry)]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [(name, "none" if value is None else str(value))]
