"""Pre-train encoders and fit cells in workers; a cell waits only for the encoders it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

from evenhand.experiments.runs import Run
from evenhand.experiments.task_cache import FitContext
from evenhand.jobs.assess.grid import Cell, cell_start, fit_cell, pretrain_encoder
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.starts import EncoderStart, cells_name_starts, encoder_starts
from evenhand.progress import bar
from evenhand.workers import Engine, Job, complete_jobs

T = TypeVar("T")


def fit_grid(context: FitContext[AssessSettings], cells: Sequence[Cell], engine: Engine) -> None:
    """Pre-train the encoders and fit every cell in workers; skip those that exist.

    Raises
    ------
    EvenhandError
        If a worker dies.
    """
    order = _Order(context, cells)
    with bar("assessment", len(order.todo)) as advance:
        while order.todo:
            for job, _ in _timed(context.run, complete_jobs(engine, order.jobs())):
                order.done.add(job.name)
                advance(text=job.name)


def _timed(run: Run, results: Iterator[T]) -> Iterator[T]:
    """Yield results, and add the time of each to the run at once, so that a killed run has it."""
    while True:
        with run.phase("training"):
            result = next(results, None)
        if result is None:
            return
        yield result


class _Order:
    """The order of the jobs: encoders begin first, as they take longest; cells wait for theirs."""

    def __init__(self, context: FitContext[AssessSettings], cells: Sequence[Cell]) -> None:
        settings = context.settings
        seeds = dict.fromkeys(cell.seed for cell in cells)
        trained = [start for start in encoder_starts(settings) if start.objective]
        name = partial(_encoder_name, alone=not cells_name_starts(settings))
        self.todo: list[Job[None]] = [
            *(
                Job(name(start, seed), _pretrain, (context, start, seed))
                for seed in seeds
                for start in trained
            ),
            *(Job(cell.name, _fit, (context, cell)) for cell in cells),
        ]
        self.done: set[str] = set()
        self._needs = {
            cell.name: {name(start, cell.seed) for start in _needed_starts(settings, cell, trained)}
            for cell in cells
        }

    def jobs(self) -> Iterator[Job[None] | None]:
        """Yield jobs that can begin, and None while all jobs wait for an encoder."""
        while self.todo:
            ready = next(filter(self._can_begin, self.todo), None)
            if ready is not None:
                self.todo.remove(ready)
            yield ready

    def _can_begin(self, job: Job[None]) -> bool:
        return self._needs.get(job.name, set()) <= self.done


def _needed_starts(
    settings: AssessSettings, cell: Cell, trained: Sequence[EncoderStart]
) -> Sequence[EncoderStart]:
    """Return the starts that must be pre-trained before a cell can be fitted.

    With equal compute, a cell without an encoder needs all of them, as their cost sets its epochs.
    """
    start = cell_start(settings, cell)
    if start is None:
        return trained if settings.equal_compute else ()
    return [start] if start.objective else []


def _encoder_name(start: EncoderStart, seed: int, *, alone: bool) -> str:
    return f"encoder of seed {seed}" if alone else f"encoder {start.name} of seed {seed}"


def _pretrain(context: FitContext[AssessSettings], start: EncoderStart, seed: int) -> None:
    """Pre-train the encoder of a seed, in a worker."""
    pretrain_encoder(context.task(), context.settings, context.run, start, seed)


def _fit(context: FitContext[AssessSettings], cell: Cell) -> None:
    """Fit a cell, in a worker."""
    fit_cell(context.task(), context.settings, context.run, cell)
