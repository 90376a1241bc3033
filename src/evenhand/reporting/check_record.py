"""The typed content of ``check.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

SCHEMA = 1
FILE = "check.json"

Status = Literal["pass", "note", "warn", "fail"]
"""The outcome of a requirement; a note is a fact that the user cannot change, not a warning."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one requirement.

    Attributes
    ----------
    requirement
        Its name in ``check.json`` (``"unknown"``).
    about
        The attribute that it is about, or ``"*"`` for the whole data set.
    measured
        The result in words, with its counts.
    value
        The result as a number; None if nothing could be measured.
    threshold
        The condition for a pass, in words.
    status
        The outcome.
    p_adjusted
        The p-value behind the status, corrected over all tests of the requirement, or None.
    """

    requirement: str
    about: str
    measured: str
    value: int | float | None
    threshold: str
    status: Status
    p_adjusted: float | None = None


class GroupCount(BaseModel, frozen=True):
    """The counts of a group in a split.

    Attributes
    ----------
    attribute, group, split
        The attribute, its level, and the split.
    patients, samples, positives
        The counts; ``positives`` is None for more than two classes.
    fewest
        The number of samples of the rarest class.
    """

    attribute: str
    group: str
    split: str
    patients: int
    samples: int
    positives: int | None
    fewest: int


class DuplicatePair(BaseModel, frozen=True):
    """Two samples of different patients that are exactly or nearly equal."""

    sample: str
    split: str
    other_sample: str
    other_split: str
    correlation: float
    exact: bool


class CheckRecord(BaseModel, frozen=True):
    """The result of a check of a data set.

    Attributes
    ----------
    status
        The worst outcome.
    findings
        Each requirement with its outcome.
    counts
        The counts of each group in each split.
    pairs, duplicates
        The number of pairs of equal samples, and the first of these pairs.
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
