"""Where work runs: this process, local processes, a Ray cluster."""

from evenhand.workers.engine import Engine, Job, Lost, MeetingPoint, NetworkHost, SocketFolder
from evenhand.workers.opening import complete, expect_workers, open_engine
from evenhand.workers.settings import WorkerSettings

__all__ = [
    "Engine",
    "Job",
    "Lost",
    "MeetingPoint",
    "NetworkHost",
    "SocketFolder",
    "WorkerSettings",
    "complete",
    "expect_workers",
    "open_engine",
]
