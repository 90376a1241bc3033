"""Records of runs as tests need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evenhand.evaluation.settings import AuditSettings
from evenhand.experiments.records import RunRecord
from evenhand.runs import SCHEMA
from evenhand.settings import Settings


def make_record(
    job: str = "audit",
    settings: Settings = AuditSettings(inputs=(Path("given.csv"),)),  # noqa: B008  (frozen)
    **entries: Any,
) -> RunRecord[Settings]:
    """Return the record of a run; only what is given is known of it."""
    empty = {"status": "running", "seed": 0, "chosen": None, "models": (), "fingerprint": ""}
    required = {"schema_version": SCHEMA, "versions": {}, "seconds": {}, **empty}
    return RunRecord[Settings](**{**required, **entries}, job=job, settings=settings)
