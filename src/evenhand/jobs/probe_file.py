"""Reading and writing ``probe.json`` of a run, without torch, as every evaluation reads it."""

from __future__ import annotations

from evenhand.experiments.runs import Run
from evenhand.files import parse_record, read_object, write_json
from evenhand.reporting.probe_record import ProbeRecord

FILE = "probe.json"


def write_probe(run: Run, record: ProbeRecord) -> None:
    """Write ``probe.json``."""
    write_json(run.root / FILE, record.model_dump())


def read_probe(run: Run) -> ProbeRecord | None:
    """Return the record in ``probe.json`` of a run; None if the run has no such file."""
    path = run.root / FILE
    return parse_record(ProbeRecord, read_object(path), path) if path.exists() else None
