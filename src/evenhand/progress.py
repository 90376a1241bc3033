"""Progress with the time left, on standard error: bars in a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol

from evenhand.launcher import is_main

if TYPE_CHECKING:
    from rich.progress import Progress


SECONDS = 60.0
"""The least time between two lines of progress where standard error is no terminal."""


class Advance(Protocol):
    """Advances a bar."""

    def __call__(self, steps: int = 1, *, text: str = "") -> None:
        """Count steps as done; ``text``, unless empty, replaces the text behind the bar."""


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """Show progress during the block; nested bars are shown below each other in a terminal.

    Elsewhere, such as in the log file of a cluster, the outermost bar prints a line at most every
    `SECONDS`.
    """
    if not is_main():
        yield _advance_nothing
    elif sys.stderr.isatty():
        with _drawn_bar(title, total) as advance:
            yield advance
    else:
        with _printed_lines(title, total) as advance:
            yield advance


@contextmanager
def _drawn_bar(title: str, total: int) -> Iterator[Advance]:
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


_printing: list[str] = []
"""The title of the bar that prints lines; other bars of the process are inside it."""


@contextmanager
def _printed_lines(title: str, total: int) -> Iterator[Advance]:
    from multiprocessing import parent_process

    if _printing or parent_process() is not None:
        yield _advance_nothing
        return
    done = counted = 0
    last = time.monotonic()

    def advance(steps: int = 1, *, text: str = "") -> None:
        nonlocal done, counted, last
        done += steps
        passed = time.monotonic() - last
        if passed < 1:  # a command that continues counts what is finished at once
            counted = done
        elif passed >= SECONDS:
            minutes = passed / 60 * (total - done) / max(done - counted, 1)
            left = f"; about {max(minutes, 1):.0f} min left" if done < total else ""
            behind = f"; {text}" if text else ""
            line = f"{title}: {done:,} of {total:,}{behind}{left}"
            print(line, file=sys.stderr, flush=True)
            counted, last = done, time.monotonic()

    _printing.append(title)
    try:
        yield advance
    finally:
        _printing.clear()


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
