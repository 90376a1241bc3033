"""Encoders and cells made by workers; a cell waits for its own encoder and for no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

from evenhand.experiments.runs import Run
from evenhand.experiments.task_cache import Fits
from evenhand.jobs.assess.grid import Cell, fit_cell, pretrained, start_of
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.starts import EncoderStart, is_named, starts_of
from evenhand.progress import bar
from evenhand.workers import Engine, Job, complete_jobs

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
            for job, _ in _timed(grid.run, complete_jobs(engine, order.jobs())):
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
        settings = grid.settings
        seeds = dict.fromkeys(cell.seed for cell in cells)
        trained = [start for start in starts_of(settings) if start.objective]
        name = partial(_encoder, alone=not is_named(settings))
        self.todo: list[Job[None]] = [
            *(
                Job(name(start, seed), _pretrain, (grid, start, seed))
                for seed in seeds
                for start in trained
            ),
            *(Job(cell.name, _fit, (grid, cell)) for cell in cells),
        ]
        self.done: set[str] = set()
        self._needs = {
            cell.name: {name(start, cell.seed) for start in _needed(settings, cell, trained)}
            for cell in cells
        }

    def jobs(self) -> Iterator[Job[None] | None]:
        """Yield what may begin, and None as long as everything waits for an encoder."""
        while self.todo:
            ready = next(filter(self._may_begin, self.todo), None)
            if ready is not None:
                self.todo.remove(ready)
            yield ready

    def _may_begin(self, job: Job[None]) -> bool:
        return self._needs.get(job.name, set()) <= self.done


def _needed(
    settings: AssessSettings, cell: Cell, trained: Sequence[EncoderStart]
) -> Sequence[EncoderStart]:
    """Return the starts that are to be trained before a cell can be fitted.

    On equal compute, a cell without an encoder trains for as long as those took.
    """
    start = start_of(settings, cell)
    if start is None:
        return trained if settings.equal_compute else ()
    return [start] if start.objective else []


def _encoder(start: EncoderStart, seed: int, *, alone: bool) -> str:
    return f"encoder of seed {seed}" if alone else f"encoder {start.name} of seed {seed}"


def _pretrain(grid: Fits[AssessSettings], start: EncoderStart, seed: int) -> None:
    """Make the encoder of a seed, in a worker."""
    pretrained(grid.task(), grid.settings, grid.run, start, seed)


def _fit(grid: Fits[AssessSettings], cell: Cell) -> None:
    """Fit a cell, in a worker."""
    fit_cell(grid.task(), grid.settings, grid.run, cell)
