"""The typed content of ``probe.json``."""

from __future__ import annotations

from pydantic import BaseModel

SCHEMA = 1


class ProbeRow(BaseModel, frozen=True):
    """How well a new probe finds an attribute in a layer of a model, given the label.

    Attributes
    ----------
    model, against
        The model; with ``against``, the numbers are its AUC less that of this other model.
    attribute, layer
        The attribute, and the layer by name.
    value, low, high
        The AUC over pairs with the same label, mean over the levels, with its interval by patient;
        None where they are undefined.
    n, patients
        The rows, and their patients.
    undefined
        Why there is no value.
    """

    model: str
    against: str | None = None
    attribute: str
    layer: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    patients: int = 0
    undefined: str | None = None


class ProbeRecord(BaseModel, frozen=True):
    """The probes of a run.

    Attributes
    ----------
    split
        Whose samples were probed.
    level
        The nominal coverage of the intervals.
    rows
        Values and differences.
    notes
        Levels that took no part, one sentence each.
    """

    schema_version: int = SCHEMA
    split: str
    level: float
    rows: tuple[ProbeRow, ...]
    notes: tuple[str, ...] = ()
