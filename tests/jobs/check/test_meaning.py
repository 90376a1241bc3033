"""What the text of a check says at its end."""

from __future__ import annotations

import pytest

from evenhand.jobs.check.job import findings_text
from evenhand.jobs.check.requirements import overall
from evenhand.reporting.check_record import CheckRecord, Finding, Status


@pytest.mark.parametrize(
    ("status", "ending"),
    [("pass", "met"), ("warn", "exit status is 0"), ("fail", "exit status is 1")],
)
def test_the_text_ends_in_what_the_outcome_means(status: Status, ending: str) -> None:
    record = CheckRecord(schema=1, status=status, findings=(), counts=(), pairs=0, duplicates=())
    assert ending in findings_text(record).splitlines()[-1]


def test_a_note_is_no_warning() -> None:
    note = Finding("licence", "*", "not recorded", None, "stated", "note")
    assert overall([note]) == "pass"
    assert overall([note, Finding("leakage", "*", "none", 0, "none", "warn")]) == "warn"
