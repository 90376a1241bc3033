"""Progress bars with time left, on standard error, where someone watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_shared = Progress(
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[text]}"),
    console=Console(stderr=True),
    speed_estimate_period=3600,  # a trial may take minutes, and two are needed to tell a speed
    transient=True,
    disable=not Console(stderr=True).is_terminal,
)


class Advance(Protocol):
    """Moves a bar on."""

    def __call__(self, steps: int = 1, *, text: str = "") -> None:
        """Count steps as done; a text that is not empty replaces the one behind the bar."""


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """Show a bar while the block runs; a bar inside another one's block stands below it."""
    task = _shared.add_task(title, total=total, text="")
    outermost = len(_shared.task_ids) == 1

    def advance(steps: int = 1, *, text: str = "") -> None:
        _shared.advance(task, steps)
        if text:
            _shared.update(task, text=text)

    if outermost:
        _shared.start()
    try:
        yield advance
    finally:
        _shared.remove_task(task)
        if outermost:
            _shared.stop()
