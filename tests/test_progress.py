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


def test_outside_a_terminal_the_outermost_bar_prints_a_line_a_minute(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.bar("trials", 10) as advance:
        advance(4)  # finished by an earlier command
        now = 50.0
        advance(text="full")
        assert capsys.readouterr().err == ""
        with progress.bar("training", 100) as inner:
            now = 120.0
            inner(90)
        assert capsys.readouterr().err == ""
        advance(text="head")
        assert capsys.readouterr().err == "trials: 6 of 10; head; about 4 min left\n"
        now = 150.0
        advance()
    assert capsys.readouterr().err == ""
    with progress.bar("chosen fits", 2) as advance:
        now = 300.0
        advance()
        assert capsys.readouterr().err == "chosen fits: 1 of 2; about 2 min left\n"
        now = 600.0
        advance()
    assert capsys.readouterr().err == "chosen fits: 2 of 2\n"


def test_where_nobody_watches_quick_work_shows_nothing_and_rich_is_not_needed():
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
