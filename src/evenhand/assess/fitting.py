"""Encoders and cells made by workers; a cell waits for its own encoder and for no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from evenhand.assess.grid import Cell, fit_cell, pretrained
from evenhand.assess.settings import SUPERVISED, AssessSettings
from evenhand.errors import EvenhandError
from evenhand.finetune.training import Task, make_task
from evenhand.progress import bar
from evenhand.runs import Run
from evenhand.workers import Engine, Job, complete

T = TypeVar("T")


@dataclass(frozen=True)
class Grid:
    """What every fit of a run is made with, and where it is kept."""

    settings: AssessSettings
    fingerprint: str
    run: Run


def fit_all(grid: Grid, cells: Sequence[Cell], engine: Engine) -> None:
    """Make the encoders and every cell, by the engine's workers; what is done stays.

    Raises
    ------
    EvenhandError
        Workers die of a job, or write to a folder of another node.
    """
    order = _Order(grid, cells)
    with bar("assessment", len(order.todo)) as advance:
        while order.todo:
            for job, made in _timed(grid.run, complete(engine, order.jobs())):
                _check_here(made)
                order.done.add(job.name)
                advance(text=job.name)


def _timed(run: Run, ended: Iterator[T]) -> Iterator[T]:
    """Yield what ends, and note the time of each at once: a killed run keeps it."""
    while True:
        with run.phase("training"):
            found = next(ended, None)
        if found is None:
            return
        yield found


@lru_cache(1)
def prepared(settings: AssessSettings) -> Task:
    """Return what every fit of a run needs; each worker prepares it once, for all its fits."""
    return make_task(settings)


class _Order:
    """Jobs in the order in which they may begin: encoders take longest, so they come first."""

    def __init__(self, grid: Grid, cells: Sequence[Cell]) -> None:
        seeds = dict.fromkeys(cell.seed for cell in cells)
        encoders = [Job(_encoder(seed), _pretrain, (grid, seed)) for seed in seeds]
        self.todo: list[Job[Path]] = [
            *encoders,
            *(Job(cell.name, _fit, (grid, cell)) for cell in cells),
        ]
        self.done: set[str] = set()
        self._needs = {
            cell.name: _encoder(cell.seed) for cell in cells if cell.strategy != SUPERVISED
        }

    def jobs(self) -> Iterator[Job[Path] | None]:
        """Yield what may begin, and None as long as everything waits for an encoder."""
        while self.todo:
            ready = next(filter(self._may_begin, self.todo), None)
            if ready is not None:
                self.todo.remove(ready)
            yield ready

    def _may_begin(self, job: Job[Path]) -> bool:
        return job.name not in self._needs or self._needs[job.name] in self.done


def _encoder(seed: int) -> str:
    return f"encoder of seed {seed}"


def _pretrain(grid: Grid, seed: int) -> Path:
    """Make the encoder of a seed, in a worker."""
    return pretrained(_task(grid), grid.settings, grid.run, seed)


def _fit(grid: Grid, cell: Cell) -> Path:
    """Fit a cell, in a worker."""
    fit_cell(_task(grid), grid.settings, grid.run, cell)
    return grid.run.predictions(cell.name)


def _task(grid: Grid) -> Task:
    task = prepared(grid.settings)
    task.check_data(grid.fingerprint)
    return task


def _check_here(made: Path) -> None:
    """Refuse a run directory that workers on other nodes write to, and this one does not see."""
    if not made.exists():
        raise EvenhandError(
            f"a worker has written {made} on another node. Name a folder with --out that all "
            "nodes share."
        )
