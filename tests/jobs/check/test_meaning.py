"""What the text of a check says at its end."""

from __future__ import annotations

import pytest

from evenhand.jobs.check.job import text_table
from evenhand.reporting.check_record import CheckRecord, Status


@pytest.mark.parametrize(
    ("status", "said"),
    [("pass", "met"), ("warn", "exit status is 0"), ("fail", "exit status is 1")],
)
def test_the_text_ends_in_what_the_outcome_means(status: Status, said: str) -> None:
    record = CheckRecord(schema=1, status=status, findings=(), counts=(), pairs=0, duplicates=())
    assert said in text_table(record).splitlines()[-1]
