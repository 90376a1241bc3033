"""The task that all fits of a run share, prepared once in each process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from socket import gethostname
from typing import Generic, TypeVar

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.experiments.settings import LabelSettings, TrainingSettings
from evenhand.experiments.task import Task, prepare_task

S = TypeVar("S", bound=TrainingSettings)


@lru_cache(1)
def cached_task(settings: TrainingSettings) -> Task:
    """Return the task of a run; each process prepares it once, for all its fits."""
    share = settings.label_share if isinstance(settings, LabelSettings) else 1.0
    return prepare_task(settings, share)


@contextmanager
def fresh_task_cache() -> Iterator[None]:
    """Empty the cache of `cached_task` before and after the block.

    Before: the data may have changed. After: cached activations may take gigabytes.
    """
    cached_task.cache_clear()
    try:
        yield
    finally:
        cached_task.cache_clear()


@dataclass(frozen=True)
class FitContext(Generic[S]):
    """What workers need to prepare the task of a run's fits: it is sent to them with each fit."""

    settings: S
    fingerprint: str  # of the task
    run: Run

    @classmethod
    def of(cls, settings: S, task: Task, run: Run) -> FitContext[S]:
        """Return the context of a run; its path is absolute, as workers may run elsewhere."""
        return cls(settings, task.fingerprint, Run(run.root.resolve()))

    def task(self) -> Task:
        """Return the task, prepared in this process.

        Raises
        ------
        EvenhandError
            If this node does not see the data, or the run directory, of the node where the command
            was given.
        """
        task = cached_task(self.settings)
        check_node(self.settings.data, self.run, same_data=task.fingerprint == self.fingerprint)
        return task


def check_node(data: str, run: Run, *, same_data: bool) -> None:
    """Refuse to work on a node that lacks the data or the run directory of the command.

    Parameters
    ----------
    data
        The data as the user named them.
    run
        The run of the command.
    same_data
        Whether the data on this node have the fingerprint that the command recorded.

    Raises
    ------
    EvenhandError
        If the data differ, or the run directory does not exist.
    """
    if not same_data:
        raise EvenhandError(
            f"on {gethostname()}, {data} holds other data than where the command was given. Put "
            "the data into a folder that all nodes share."
        )
    if not (run.root / "run.json").is_file():
        raise EvenhandError(
            f"on {gethostname()}, the run directory {run.root} does not exist. Give --out a folder "
            "that all nodes share."
        )
