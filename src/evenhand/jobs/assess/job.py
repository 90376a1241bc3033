"""`evenhand assess`: the five stages, in one command and one report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evenhand.cohort.settings import SplitSettings
from evenhand.errors import EvenhandError, some
from evenhand.evaluation.requests import check_choice, measure_settings
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, seconds_per_fit
from evenhand.experiments.task_cache import Fits, cached_task, fresh_task_cache
from evenhand.files import write_json
from evenhand.jobs.assess.answers import sentences
from evenhand.jobs.assess.claims import claims_of
from evenhand.jobs.assess.fitting import fit_all
from evenhand.jobs.assess.grid import cells_of, check_encoders, with_share
from evenhand.jobs.assess.judging import evaluate
from evenhand.jobs.assess.labels import check_shares
from evenhand.jobs.assess.pages import write_assessment
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.similarity import similarity_of
from evenhand.jobs.assess.similarity_grid import grid_similarity, write_grid
from evenhand.jobs.assess.starts import starts_of
from evenhand.jobs.check.job import measure_requirements
from evenhand.jobs.check.settings import CheckSettings
from evenhand.jobs.finetune.job import begin
from evenhand.jobs.keywords import with_keywords
from evenhand.masks.strategies import find_strategy
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.reporting import check_record, similarity_record
from evenhand.runs import run_scope
from evenhand.training.precision import settle_precision
from evenhand.wording import counted
from evenhand.workers import open_engine


@with_keywords(AssessSettings, "data")
@run_scope()
@fresh_task_cache()
def assess(
    settings: AssessSettings,
    out: Path,
    *,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
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
    notify
        Called, before the long work, with how many fits there will be and how long they take.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    settings = settle_precision(settings)
    if not settings.attribute:
        raise EvenhandError("fairness is between groups: give an --attribute.")
    for objective in settings.objectives:
        SSL_OBJECTIVES.find(objective)
    encoders = [start.weights for start in starts_of(settings) if start.objective is None]
    task = cached_task(settings)
    _refuse(task)
    check_choice(measure_settings(settings, settings.exclude_group), task.groups)
    check_encoders(task, settings)
    check_shares(task, settings)
    for cell in settings.cell:
        find_strategy(cell)(task.model(), settings.seed)
    cells = tuple(cells_of(settings))
    with open_engine(settings) as engine:
        names = [cell.name for cell in cells]
        run = begin("assess", task, out, names, overwrite=overwrite, encoders=encoders)
        notify(_forecast(task, settings, len(cells)))
        _measure_data(task, settings, run)
        fit_all(Fits(settings, task.fingerprint, Run(run.root.resolve())), cells, engine)
    with run.phase("evaluation"):
        evaluations = evaluate(run, settings)
        run.note(answer=tuple(sentences(claims_of(evaluations))))
    with run.phase("similarity"):
        similarity = similarity_of(task, settings, run, evaluations[0])
        write_json(run.root / similarity_record.FILE, similarity.as_json())
        write_grid(run, grid_similarity(task, settings, run, evaluations))
    first = evaluations[0]
    chosen = f"{with_share(first.chosen, first.share)}-seed{settings.seed}"
    run.note(chosen=chosen)
    write_assessment(run, evaluations)
    run.finish(chosen=chosen)  # last: a finished run lacks nothing
    return run


def _refuse(task: Task) -> None:
    """Refuse what cannot be assessed: other than two classes, fewer than two groups."""
    if len(task.splits.train.classes) != 2:
        raise EvenhandError("the assessment is for two classes; name another --label.")
    for name, groups in task.groups.items():
        left = groups.compared(task.excluded.get(name, ()))
        if len(left) < 2:
            raise EvenhandError(
                f"--exclude-group leaves {some(left) or 'no group'} of {name}, and fairness is "
                "between groups: exclude fewer."
            )


def _measure_data(task: Task, settings: AssessSettings, run: Run) -> None:
    """Measure the data before anything is trained on them, once for a run that goes on."""
    path = run.root / check_record.FILE
    if not path.exists():
        with run.phase("requirements"):
            split_settings = settings.model_dump(include=set(SplitSettings.model_fields))
            requirements = measure_requirements(task.splits, CheckSettings(**split_settings))
            write_json(path, requirements.record().as_json())


def _forecast(task: Task, settings: AssessSettings, cells: int) -> str:
    seconds = seconds_per_fit(task)
    encoders = settings.seeds * len(settings.objectives)
    pretraining = encoders * seconds * 2 * settings.pretrain_epochs / settings.epochs
    minutes = max(1, round((pretraining + cells * seconds) / settings.workers / 60))
    beside = f", {settings.workers} at a time" if settings.workers > 1 else ""
    trained = (
        f"{counted(encoders, 'encoder')} of at most "
        f"{counted(settings.pretrain_epochs, 'epoch')} and "
    )
    return (
        f"{trained if encoders else ''}{counted(cells, 'fit')} of at most "
        f"{settings.epochs}{beside}. At most about {minutes} min; early stops and frozen layers "
        "make it less."
    )
