"""Run jobs in this process, in local processes, or on a Ray cluster."""

from evenhand.workers.engine import Engine, Job, Lost, MeetingPoint, NetworkHost, SocketFolder
from evenhand.workers.opening import complete_jobs, expect_workers, open_engine
from evenhand.workers.settings import WorkerSettings

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
