"""`evenhand assess`: the five stages, in one command and one report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from evenhand.assess.alike import similarity_of
from evenhand.assess.evaluation import evaluate
from evenhand.assess.grid import Cell, cells_of, fit_cell, pretrained
from evenhand.assess.page import page_of, sentences
from evenhand.assess.records import write_metrics
from evenhand.assess.requirements.job import measure_requirements
from evenhand.assess.requirements.settings import CheckSettings
from evenhand.assess.settings import AssessSettings
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError
from evenhand.files import write_json, write_text
from evenhand.finetune.job import begin
from evenhand.finetune.training import Task, make_task, seconds_per_fit
from evenhand.models.strategies import find_strategy
from evenhand.pretrain.methods import find_method
from evenhand.progress import bar
from evenhand.runs import Run
from evenhand.wording import counted
from evenhand.workers import Engine, Job, complete, open_engine

T = TypeVar("T")


@dataclass(frozen=True)
class Grid:
    """What every fit of a run is made with, and where it is kept."""

    settings: AssessSettings
    fingerprint: str
    run: Run


def assess(
    settings: AssessSettings,
    out: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Ask whether self-supervision makes a model fairer, by how much, and at what cost.

    Parameters
    ----------
    settings
        Data, network, grid and recipe.
    out
        The run directory; what an unfinished run of the same settings has done is not done again.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.
    say
        Told, before the long work, how many fits there will be and how long they take.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    if not settings.attribute:
        raise EvenhandError("fairness is between groups: give an --attribute.")
    find_method(settings.method)
    _prepared.cache_clear()  # the data may have changed since an earlier run of this process
    task = _prepared(settings)
    if len(task.splits.train.classes) != 2:
        raise EvenhandError("the assessment is for two classes; name another --label.")
    for cell in settings.cell:
        find_strategy(cell)(task.model(), settings.seed)
    cells = tuple(cells_of(settings))
    with open_engine(settings) as engine:
        run = begin("assess", task, out, [cell.name for cell in cells], overwrite=overwrite)
        say(_forecast(task, settings, len(cells)))
        _fit_all(Grid(settings, task.fingerprint, Run(run.root.resolve())), cells, engine)
    with run.phase("evaluation"):
        found = evaluate(run, settings)
        write_metrics(run, found)
        run.note(answer=sentences(found[0]))
    with run.phase("similarity"):
        alike = similarity_of(task, settings, run, found[0])
        write_json(run.root / "similarity.json", alike)
    with run.phase("requirements"):
        asked = settings.model_dump(include=set(DataSettings.model_fields))
        required = measure_requirements(task.splits, CheckSettings(**asked)).records()
        write_json(run.root / "check.json", required)
    run.finish(chosen=Cell(found[0].chosen, found[0].share, settings.seed).name)
    write_text(run.root / "report.html", page_of(run, found, required, alike))
    return run


@lru_cache(1)
def _prepared(settings: AssessSettings) -> Task:
    """Return what every fit of a run needs; each worker prepares it once, for all its fits."""
    return make_task(settings)


def _fit_all(grid: Grid, cells: Sequence[Cell], engine: Engine) -> None:
    """Make the encoders, then every cell, by the engine's workers; what is done stays."""
    seeds = dict.fromkeys(cell.seed for cell in cells)
    encoders = [Job(f"encoder of seed {seed}", _pretrain, (grid, seed)) for seed in seeds]
    fits = [Job(cell.name, _fit, (grid, cell)) for cell in cells]
    phases: dict[str, list[Job[Path]]] = {"pre-training": encoders, "fine-tuning": fits}
    with bar("assessment", len(encoders) + len(fits)) as advance:
        for phase, jobs in phases.items():
            for job, made in _timed(grid.run, phase, complete(engine, jobs)):
                _check_here(made)
                advance(text=job.name)


def _timed(run: Run, phase: str, ended: Iterator[T]) -> Iterator[T]:
    """Yield what ends, and note the time of each at once: a killed run keeps it."""
    while True:
        with run.phase(phase):
            found = next(ended, None)
        if found is None:
            return
        yield found


def _pretrain(grid: Grid, seed: int) -> Path:
    """Make the encoder of a seed, in a worker."""
    return pretrained(_task(grid), grid.settings, grid.run, seed)


def _fit(grid: Grid, cell: Cell) -> Path:
    """Fit a cell, in a worker."""
    fit_cell(_task(grid), grid.settings, grid.run, cell)
    return grid.run.predictions(cell.name)


def _task(grid: Grid) -> Task:
    task = _prepared(grid.settings)
    task.check_data(grid.fingerprint)
    return task


def _check_here(made: Path) -> None:
    """Refuse a run directory that workers on other nodes write to, and this one does not see."""
    if not made.exists():
        raise EvenhandError(
            f"a worker has written {made} on another node. Name a folder with --out that all "
            "nodes share."
        )


def _forecast(task: Task, settings: AssessSettings, cells: int) -> str:
    one = seconds_per_fit(task, task.model())
    encoders = settings.seeds * one * 2 * settings.pretrain_epochs / settings.epochs
    minutes = max(1, round((encoders + cells * one) / settings.workers / 60))
    beside = f", {settings.workers} at a time" if settings.workers > 1 else ""
    return (
        f"{counted(settings.seeds, 'encoder')} of at most "
        f"{counted(settings.pretrain_epochs, 'epoch')} and {counted(cells, 'fit')} of at most "
        f"{settings.epochs}{beside}. At most about {minutes} min; early stops and frozen layers "
        "make it less."
    )
