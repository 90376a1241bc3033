"""Progress bars with the time left, on standard error if it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol

from evenhand.launcher import is_main

if TYPE_CHECKING:
    from rich.progress import Progress


class Advance(Protocol):
    """Advances a bar."""

    def __call__(self, steps: int = 1, *, text: str = "") -> None:
        """Count steps as done; ``text``, unless empty, replaces the text behind the bar."""


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """Show a bar during the block; nested bars are shown below each other."""
    if not (sys.stderr.isatty() and is_main()):
        yield _advance_nothing
        return
    shared = _shared()
    task = shared.add_task(title, total=total, text="")
    outermost = len(shared.task_ids) == 1

    def advance(steps: int = 1, *, text: str = "") -> None:
        shared.advance(task, steps)
        if text:
            shared.update(task, text=text)

    if outermost:
        shared.start()
    try:
        yield advance
    finally:
        shared.remove_task(task)
        if outermost:
            shared.stop()


def _advance_nothing(steps: int = 1, *, text: str = "") -> None:
    """Do nothing, since no bar is shown."""


@cache
def _shared() -> Progress:
    """Return the display of all bars of this process."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=Console(stderr=True),
        speed_estimate_period=3600,  # seconds; long enough for two trials of many minutes
        transient=True,
    )
