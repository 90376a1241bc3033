"""The typed content of ``probe.json``."""

from __future__ import annotations

from pydantic import BaseModel

SCHEMA = 1
FILE = "probe.json"


class ProbeRow(BaseModel, frozen=True):
    """The AUC of a new probe that predicts an attribute from a layer of a model, given the label.

    Attributes
    ----------
    model, against
        The model. With ``against``, the numbers are its AUC less that of this other model.
    attribute, layer
        The attribute, and the name of the layer.
    value, low, high
        The AUC over pairs with the same label, mean over the levels, and its interval by patient;
        None where undefined.
    n, patients
        The numbers of rows and patients.
    undefined
        Why the value is undefined, or None.
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
        The split whose samples were probed.
    level
        The nominal coverage of the intervals.
    rows
        The AUCs and their differences between models.
    notes
        Sentences about levels that took no part.
    """

    schema_version: int = SCHEMA
    split: str
    level: float
    rows: tuple[ProbeRow, ...]
    notes: tuple[str, ...] = ()
