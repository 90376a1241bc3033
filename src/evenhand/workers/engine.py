"""What every engine does: it runs independent jobs, and a worker that dies costs its job only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """Work that waits for no other job.

    Parameters
    ----------
    name
        What messages call it.
    work
        A function at the top of a module; it and its arguments travel by pickle.
    args
        Its arguments.
    """

    name: str
    work: Callable[..., T]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Lost:
    """What becomes of a job whose worker died, and why it did."""

    reason: str


@dataclass(frozen=True)
class SocketFolder:
    """A folder of this machine for Unix sockets, which only this user may enter."""

    folder: Path


@dataclass(frozen=True)
class NetworkHost:
    """Address of this machine on the network.

    Parameters
    ----------
    name
        Its host name or address.
    certificate, key
        PEM files for TLS; both or none.
    """

    name: str
    certificate: Path | None = None
    key: Path | None = None


MeetingPoint = SocketFolder | NetworkHost
"""Where the jobs of an engine can reach the process that started them."""


class Engine(Protocol):
    """Where jobs run."""

    @property
    def workers(self) -> int:
        """Number of jobs that run at the same time."""

    @property
    def meeting_point(self) -> MeetingPoint | None:
        """Where jobs can reach this process; None where they run in it."""

    def run(self, jobs: Iterable[Job[T] | None]) -> Iterator[tuple[Job[T], T | Lost]]:
        """Run jobs, and yield each with its value as it ends.

        A job is drawn from ``jobs`` when a worker is free for it and every outcome so far has been
        taken: what has ended may decide what comes next. None says that nothing may begin before
        another job has ended; where none is at work, it ends the run. What a job raises is raised
        here.
        """
