"""Run jobs one after another in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evenhand.workers.engine import Job, Lost, T


class Inline:
    """Runs each job when it is drawn; its worker is this process."""

    workers = 1
    meeting_point = None

    def run(self, jobs: Iterable[Job[T] | None]) -> Iterator[tuple[Job[T], T | Lost]]:
        """Run jobs in order, and yield each with its value."""
        for job in jobs:
            if job is None:
                return
            yield job, job.work(*job.args)
