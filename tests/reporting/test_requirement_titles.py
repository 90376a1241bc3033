"""Every finding of a check has a title on the page."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import ROOT

from evenhand.reporting.sections.requirements import TITLES

SOURCES = Path(ROOT) / "src" / "evenhand" / "jobs" / "check"


def test_every_requirement_that_a_check_yields_has_a_title():
    text = "".join(file.read_text() for file in SOURCES.glob("*.py"))
    names = set(re.findall(r'Finding\(\s*(?:requirement=)?"(\w+)"', text))
    assert {"note", "attributes"} <= names
    assert names <= set(TITLES)
