"""The interface of engines, which run independent jobs; a dead worker loses only its own job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """A function call that does not depend on other jobs.

    Parameters
    ----------
    name
        The name of the job, for messages.
    work
        A module-level function. The function and its arguments must be picklable.
    args
        The arguments.
    """

    name: str
    work: Callable[..., T]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Lost:
    """The outcome of a job whose worker died, with the reason."""

    reason: str


@dataclass(frozen=True)
class SocketFolder:
    """A folder of this machine for Unix sockets, which only this user may enter."""

    folder: Path


@dataclass(frozen=True)
class NetworkHost:
    """The address of this machine on the network.

    Parameters
    ----------
    name
        The host name or address.
    certificate, key
        PEM files for TLS; both or none.
    """

    name: str
    certificate: Path | None = None
    key: Path | None = None


MeetingPoint = SocketFolder | NetworkHost
"""The place at which an engine's jobs can reach the process that started them."""


class Engine(Protocol):
    """Runs jobs in one or more workers."""

    @property
    def workers(self) -> int:
        """The number of jobs that run at the same time."""

    @property
    def meeting_point(self) -> MeetingPoint | None:
        """The place at which jobs can reach this process; None if they run in it."""

    def run(self, jobs: Iterable[Job[T] | None]) -> Iterator[tuple[Job[T], T | Lost]]:
        """Run jobs, and yield each with its value when it ends.

        The next job is taken from ``jobs`` when a worker is free and all earlier outcomes have been
        yielded. So outcomes can decide which job comes next. If ``jobs`` yields None, no job starts
        until a running one has ended; if none is running, the run ends. An error in a job is raised
        by this generator.
        """


class Inline:
    """Runs each job in this process when the caller asks for its outcome."""

    workers = 1
    meeting_point = None  # jobs need no connection to this process

    def run(self, jobs: Iterable[Job[T] | None]) -> Iterator[tuple[Job[T], T | Lost]]:
        """Run jobs in order, and yield each with its value; a None in ``jobs`` ends the run."""
        for job in jobs:
            if job is None:
                return
            yield job, job.work(*job.args)
