"""Run jobs one after another in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evenhand.workers.engine import Job, Lost, T


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
