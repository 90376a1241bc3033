"""The bars that long work shows."""

from __future__ import annotations

import subprocess
import sys

from evenhand import progress


def test_time_left_is_known_when_a_step_takes_minutes(monkeypatch):
    clock = iter(range(0, 10**6, 300))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress._shared(), "get_time", lambda: float(next(clock)))
    with progress.bar("trials", 10) as advance:
        for _ in range(3):
            advance()
        (task,) = progress._shared().tasks
        assert task.time_remaining is not None


def test_where_nobody_watches_nothing_is_shown_and_rich_is_not_needed():
    script = """
import sys
from evenhand.progress import bar
with bar("trials", 2) as advance:
    advance(text="half")
    advance()
assert "rich" not in sys.modules
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
