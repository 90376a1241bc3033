"""Findings: what was measured of one requirement, against which threshold, with which outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evenhand.jobs.check.settings import Limits

Status = Literal["pass", "warn", "fail"]
ORDER: tuple[Status, ...] = ("pass", "warn", "fail")


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
    value: float | None
    threshold: str
    status: Status
    p_adjusted: float | None = None


def at_most(value: float, limits: Limits) -> Status:
    """Judge a number that is to be small.

    Examples
    --------
    >>> at_most(0.1, (0.05, 0.3))
    'warn'
    """
    return "fail" if value > limits[1] else "warn" if value > limits[0] else "pass"


def at_least(value: float, limits: Limits) -> Status:
    """Judge a number that is to be large.

    Examples
    --------
    >>> at_least(50, (50, 10))
    'pass'
    """
    return "fail" if value < limits[1] else "warn" if value < limits[0] else "pass"


def overall(findings: Sequence[Finding]) -> Status:
    """Return the worst outcome."""
    return max((finding.status for finding in findings), key=ORDER.index, default="pass")
