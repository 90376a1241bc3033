"""What all fits of a run have in common, prepared once in each process that fits."""

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
from evenhand.experiments.task import Task, make_task

S = TypeVar("S", bound=TrainingSettings)


@lru_cache(1)
def prepared(settings: TrainingSettings) -> Task:
    """Return what every fit of a run needs; each process prepares it once, for all its fits."""
    share = settings.label_share if isinstance(settings, LabelSettings) else 1.0
    return make_task(settings, share)


@contextmanager
def fresh_task_cache() -> Iterator[None]:
    """Prepare anew in the block, as the data may have changed, and keep nothing behind it.

    Kept activations may take gigabytes.
    """
    prepared.cache_clear()
    try:
        yield
    finally:
        prepared.cache_clear()


@dataclass(frozen=True)
class Fits(Generic[S]):
    """What every fit of a run is made with, and where it is kept; workers are sent it."""

    settings: S
    fingerprint: str  # of the task
    run: Run

    def task(self) -> Task:
        """Return, in a worker, what its fits need.

        Raises
        ------
        EvenhandError
            This node does not share the data, or the run directory, with the one where the command
            was given.
        """
        task = prepared(self.settings)
        if task.fingerprint != self.fingerprint:
            raise EvenhandError(
                f"on {gethostname()}, {self.settings.data} holds other data than where the command "
                "was given. Put the data in a folder that all nodes share."
            )
        if not (self.run.root / "run.json").is_file():
            raise EvenhandError(
                f"on {gethostname()}, there is no {self.run.root}, where the run is to be kept. "
                "Name a folder with --out that all nodes share."
            )
        return task
