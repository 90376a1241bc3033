"""Judge requirements: compare a number with two limits, and find the worst outcome."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.jobs.check.settings import Limits
from evenhand.reporting.check_record import Finding, Status

ORDER: tuple[Status, ...] = ("pass", "note", "warn", "fail")


def at_most(value: float, limits: Limits) -> Status:
    """Judge a number that should be small: warn above the first limit, fail above the second.

    Examples
    --------
    >>> at_most(0.1, (0.05, 0.3))
    'warn'
    """
    return "fail" if value > limits[1] else "warn" if value > limits[0] else "pass"


def at_least(value: float, limits: Limits) -> Status:
    """Judge a number that should be large: warn below the first limit, fail below the second.

    Examples
    --------
    >>> at_least(50, (50, 10))
    'pass'
    """
    return "fail" if value < limits[1] else "warn" if value < limits[0] else "pass"


def overall(findings: Sequence[Finding]) -> Status:
    """Return the worst outcome; notes do not count."""
    judged = (finding.status for finding in findings if finding.status != "note")
    return max(judged, key=ORDER.index, default="pass")
