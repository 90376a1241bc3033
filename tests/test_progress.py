"""The bars that long work shows."""

from __future__ import annotations

from unittest.mock import patch

from evenhand import progress


def test_time_left_is_known_when_a_step_takes_minutes():
    clock = iter(range(0, 10**6, 300))
    with (
        patch.object(progress._shared, "get_time", lambda: float(next(clock))),
        progress.bar("trials", 10) as advance,
    ):
        for _ in range(3):
            advance()
        (task,) = progress._shared.tasks
        assert task.time_remaining is not None
