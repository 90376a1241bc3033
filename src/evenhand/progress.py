"""Progress bars with time left, on standard error, where someone watches."""

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
    """Moves a bar on."""

    def __call__(self, steps: int = 1, *, text: str = "") -> None:
        """Count steps as done; a text that is not empty replaces the one behind the bar."""


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """Show a bar while the block runs; a bar inside another one's block stands below it."""
    if not (sys.stderr.isatty() and is_main()):
        yield _unseen
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


def _unseen(steps: int = 1, *, text: str = "") -> None:
    """Move no bar on."""


@cache
def _shared() -> Progress:
    """Return what shows all bars of this process."""
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
        speed_estimate_period=3600,  # a trial may take minutes, and two are needed to tell a speed
        transient=True,
    )
