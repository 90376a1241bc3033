"""Open the engine that settings choose, and run jobs that must all succeed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from evenhand.errors import EvenhandError
from evenhand.launcher import check_alone
from evenhand.workers.engine import Engine, Inline, Job, Lost, T
from evenhand.workers.settings import WorkerSettings


@contextmanager
def open_engine(settings: WorkerSettings) -> Iterator[Engine]:
    """Yield the engine that settings choose; its workers end with the block.

    Raises
    ------
    EvenhandError
        If the settings choose Ray and Ray is not installed, does not answer, or has no room for a
        worker; or if a launcher started several processes and this is one of them.
    """
    check_alone()
    if settings.engine == "ray":
        from evenhand.workers.cluster import RayTasks

        with closing(RayTasks(settings)) as cluster:
            yield cluster
    elif settings.workers > 1 or settings.worker_cpus:
        from evenhand.workers.local import LocalProcesses

        with closing(LocalProcesses(settings.workers, _threads(settings), _gpus())) as processes:
            yield processes
    else:
        yield Inline()


def expect_workers(settings: WorkerSettings, module: str) -> None:
    """Start to import a module for local workers, while this process does other work."""
    if settings.engine == "local" and settings.workers > 1:
        from evenhand.workers.local import start_fork_server

        start_fork_server(_threads(settings), [module])


def _threads(settings: WorkerSettings) -> int:
    return settings.worker_cpus or _share(settings.workers)


def complete_jobs(engine: Engine, jobs: Iterable[Job[T] | None]) -> Iterator[tuple[Job[T], T]]:
    """Run jobs that must all succeed, and yield each with its value when it ends.

    A job whose worker died is run once more after all others.

    Raises
    ------
    EvenhandError
        If two workers died during the same job.
    """
    lost = []
    for job, outcome in engine.run(jobs):
        if isinstance(outcome, Lost):
            lost.append(job)
        else:
            yield job, outcome
    for job, outcome in engine.run(lost):
        if isinstance(outcome, Lost):
            raise EvenhandError(
                f"{job.name} was given up: two workers died during it. The last one: "
                f"{outcome.reason}\nFinished jobs are kept. Give the same command again to "
                "continue, with fewer --workers if memory was short."
            )
        yield job, outcome


def _share(workers: int) -> int:
    """Return the CPU threads of each worker: $OMP_NUM_THREADS, else an equal share."""
    if limit := os.environ.get("OMP_NUM_THREADS"):
        return int(limit)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cpus or 1) // workers)


def _gpus() -> list[str]:
    """Return CUDA's names of the GPUs that this process may use."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return visible.split(",")
    from torch.cuda import device_count

    return [str(index) for index in range(device_count())]
