"""Run jobs in this process, in local processes, or on a Ray cluster."""

from evenhand.workers.engine import Engine, Job, Lost, MeetingPoint, NetworkHost, SocketFolder
from evenhand.workers.opening import WorkerSettings, complete_jobs, expect_workers, open_engine

__all__ = [
    "Engine",
    "Job",
    "Lost",
    "MeetingPoint",
    "NetworkHost",
    "SocketFolder",
    "WorkerSettings",
    "complete_jobs",
    "expect_workers",
    "open_engine",
]
