"""The typed content of ``check.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

SCHEMA = 1
FILE = "check.json"

Status = Literal["pass", "note", "warn", "fail"]
"""The outcome of a requirement; a note is a fact that the user cannot mend, and no warning."""


@dataclass(frozen=True)
class Finding:
    """One requirement, measured.

    Attributes
    ----------
    requirement
        Its name in ``check.json`` (``"unknown"``).
    about
        What it was measured of: an attribute, or ``"*"`` for all the data.
    measured
        What was found, in words, with the counts behind it.
    value
        The number that was judged; None where nothing could be measured.
    threshold
        Where it passes, in words.
    status
        The outcome.
    p_adjusted
        The p-value behind the status, corrected over all tests of the requirement; else None.
    """

    requirement: str
    about: str
    measured: str
    value: int | float | None
    threshold: str
    status: Status
    p_adjusted: float | None = None


class GroupCount(BaseModel, frozen=True):
    """The patients, samples and positives of a group in a split.

    ``positives`` (of class 1) is None for more than two classes; ``fewest`` are the samples of the
    rarest class.
    """

    attribute: str
    group: str
    split: str
    patients: int
    samples: int
    positives: int | None
    fewest: int


class DuplicatePair(BaseModel, frozen=True):
    """Two samples of different patients that are the same, exactly or nearly."""

    sample: str
    split: str
    other_sample: str
    other_split: str
    correlation: float
    exact: bool


class CheckRecord(BaseModel, frozen=True):
    """What was measured of a data set.

    Attributes
    ----------
    status
        The worst outcome.
    findings
        Each requirement with its outcome.
    counts
        The sizes of all groups in all splits.
    pairs, duplicates
        How many pairs of samples are the same, and the first of them.
    """

    schema_version: int = Field(SCHEMA, alias="schema")
    status: Status
    findings: tuple[Finding, ...]
    counts: tuple[GroupCount, ...]
    pairs: int
    duplicates: tuple[DuplicatePair, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return self.model_dump(mode="json", by_alias=True)
