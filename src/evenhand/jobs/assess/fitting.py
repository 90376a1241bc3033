"""Encoders and cells made by workers; a cell waits for its own encoder and for no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from evenhand.experiments.runs import Run
from evenhand.experiments.task_cache import Fits
from evenhand.jobs.assess.grid import Cell, fit_cell, pretrained
from evenhand.jobs.assess.settings import LABELLED, AssessSettings
from evenhand.progress import bar
from evenhand.workers import Engine, Job, complete

T = TypeVar("T")


def fit_all(grid: Fits[AssessSettings], cells: Sequence[Cell], engine: Engine) -> None:
    """Make the encoders and every cell, by the engine's workers; what is done stays.

    Raises
    ------
    EvenhandError
        Workers die of a job.
    """
    order = _Order(grid, cells)
    with bar("assessment", len(order.todo)) as advance:
        while order.todo:
            for job, _ in _timed(grid.run, complete(engine, order.jobs())):
                order.done.add(job.name)
                advance(text=job.name)


def _timed(run: Run, ended: Iterator[T]) -> Iterator[T]:
    """Yield what ends, and note the time of each at once: a killed run keeps it."""
    while True:
        with run.phase("training"):
            fit = next(ended, None)
        if fit is None:
            return
        yield fit


class _Order:
    """Jobs in the order in which they may begin: encoders take longest, so they come first."""

    def __init__(self, grid: Fits[AssessSettings], cells: Sequence[Cell]) -> None:
        seeds = dict.fromkeys(cell.seed for cell in cells)
        encoders = [Job(_encoder(seed), _pretrain, (grid, seed)) for seed in seeds]
        self.todo: list[Job[None]] = [
            *encoders,
            *(Job(cell.name, _fit, (grid, cell)) for cell in cells),
        ]
        self.done: set[str] = set()
        self._needs = {
            cell.name: _encoder(cell.seed) for cell in cells if cell.strategy not in LABELLED
        }

    def jobs(self) -> Iterator[Job[None] | None]:
        """Yield what may begin, and None as long as everything waits for an encoder."""
        while self.todo:
            ready = next(filter(self._may_begin, self.todo), None)
            if ready is not None:
                self.todo.remove(ready)
            yield ready

    def _may_begin(self, job: Job[None]) -> bool:
        return job.name not in self._needs or self._needs[job.name] in self.done


def _encoder(seed: int) -> str:
    return f"encoder of seed {seed}"


def _pretrain(grid: Fits[AssessSettings], seed: int) -> None:
    """Make the encoder of a seed, in a worker."""
    pretrained(grid.task(), grid.settings, grid.run, seed)


def _fit(grid: Fits[AssessSettings], cell: Cell) -> None:
    """Fit a cell, in a worker."""
    fit_cell(grid.task(), grid.settings, grid.run, cell)
