"""`evenhand tune`: FairTune, its baselines, and the evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.storages import BaseStorage
from optuna.study import Study

from evenhand.audit.evaluate import evaluate
from evenhand.files import write_json
from evenhand.finetune.job import begin, kept_settings
from evenhand.finetune.prepared import Fits, prepared, prepared_anew
from evenhand.finetune.training import Task, seconds_per_fit
from evenhand.measure import find_rule
from evenhand.measure.pareto import Rule
from evenhand.runs import Run, run_scope
from evenhand.search.loop import search
from evenhand.search.space import Space
from evenhand.search.storage import open_run_storage, open_storage, storage_errors
from evenhand.search.study import Direction, check_study, drop_study, identity_of, open_study
from evenhand.spreadsheets import write_csv
from evenhand.tune.confirmation import Confirmed, best_confirmed, confirmed, to_confirm
from evenhand.tune.contenders import FAIRTUNE, Contender, contenders
from evenhand.tune.fitting import fit_all, score_choice
from evenhand.tune.importance import unit_importance
from evenhand.tune.settings import TuneSettings
from evenhand.tune.spaces import Choice, repeat_space
from evenhand.tune.trials import best_first, trials_table
from evenhand.wording import counted
from evenhand.workers import Engine, open_engine


@dataclass(frozen=True, eq=False)
class Searched:
    """A contender, its trials, and the one that was chosen."""

    contender: Contender
    tables: tuple[pd.DataFrame, ...]
    confirmed: tuple[Confirmed, ...]
    trial: int
    choice: Choice


@dataclass(frozen=True, eq=False)
class Job:
    """What all searches of a run have in common."""

    task: Task
    fits: Fits[TuneSettings]
    rule: Rule
    storage: BaseStorage
    engine: Engine


@run_scope()
@prepared_anew()
def tune(
    settings: TuneSettings,
    out: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Search masks and learning rates on validation fairness, then fit the best and report.

    Each baseline gets a search of its learning rate with as many trials, epochs and fits to
    confirm them, by the same objectives. The test split is scored once per model, after all
    searches have ended.

    Parameters
    ----------
    settings
        Data, model, training and search.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.
    say
        Told, before the long work, how many fits there will be and how long they take.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    task = prepared(settings)
    competing = contenders(task, settings)
    rule = find_rule(settings.pick, task.objectives)
    where = settings.storage or str(out / "study.db")
    with open_engine(settings) as engine, storage_errors(where):
        _check_storage(task, settings, out, competing)
        run = begin("tune", task, out, [one.name for one in competing], overwrite=overwrite)
        say(_forecast(task, settings, competing))
        storage = open_storage(settings.storage) if settings.storage else open_run_storage(run)
        if overwrite:  # elsewhere than in the run directory, its studies are still there
            for name in _study_names(competing):
                drop_study(storage, _of_study(task, settings, out, name)[0])
        fits = Fits(settings, task.fingerprint, Run(run.root.resolve()))
        job = Job(task, fits, rule, storage, engine)
        found = [_searched(job, contender) for contender in competing]
        _write(job, found)
        fit_all(fits, [(one.contender.name, one.choice, one.trial) for one in found], engine)
    with run.phase("evaluation"):
        evaluate(run, chosen=FAIRTUNE)
    run.finish(chosen=FAIRTUNE)
    return run


def _check_storage(
    task: Task, settings: TuneSettings, out: Path, competing: tuple[Contender, ...]
) -> None:
    """See that the storage that the settings name, if they do, can take every study."""
    if settings.storage:
        storage = open_storage(settings.storage)
        for name in _study_names(competing):
            check_study(storage, *_of_study(task, settings, out, name))


def _study_names(competing: tuple[Contender, ...]) -> list[str]:
    return [name for one in competing for name in (one.name, one.confirmation)]


def _of_study(
    task: Task, settings: TuneSettings, root: Path, name: str
) -> tuple[str, list[Direction], str]:
    """Return what a study of a run is called in its storage, its directions and its identity."""
    return (
        f"{root.resolve().name}/{name}",
        [objective.direction for objective in task.objectives],
        identity_of(kept_settings(settings), task.fingerprint),
    )


def _forecast(task: Task, settings: TuneSettings, competing: tuple[Contender, ...]) -> str:
    again = settings.confirm * settings.confirm_seeds
    fits = sum(int(min(settings.trials, one.space.size)) + again + 1 for one in competing)
    minutes = fits * seconds_per_fit(task) / settings.workers / 60
    several = len(task.objectives) > 1
    beside = f", {settings.workers} at a time" if settings.workers > 1 else ""
    stopped = "no trial is stopped early, as there are several objectives; " if several else ""
    return (
        f"{counted(fits, 'fit')} at most: {counted(len(competing), 'search', 'searches')} of "
        f"{counted(settings.trials, 'trial')}, {counted(again, 'fit')} to confirm each, and their "
        f"final fits, {counted(settings.epochs, 'epoch')} each{beside}. At most "
        f"about {max(1, round(minutes))} min; {stopped}"
        f"{'frozen layers make' if several else 'pruned trials and frozen layers make'} it less."
    )


def _searched(job: Job, contender: Contender) -> Searched:
    """Run a contender's search and confirmation to their ends."""
    objectives, settings = job.task.objectives, job.fits.settings
    study = _study(job, contender.name, contender, contender.space, settings.trials)
    best = best_first(study, objectives, job.rule)
    tables = [trials_table(study, contender.space, objectives)]
    found: list[Confirmed] = []
    number = None
    if settings.confirm:
        seeds = range(settings.seed + 1, settings.seed + 1 + settings.confirm_seeds)
        space = repeat_space(to_confirm(best, contender.space, settings.confirm), seeds)
        again = _study(job, contender.confirmation, contender, space, int(space.size))
        tables.append(trials_table(again, space, objectives))
        found = confirmed(again, best, objectives)
        number = best_confirmed(found, objectives, job.rule)
    chosen = next((trial for trial in best if trial.number == number), best[0])
    return Searched(
        contender, tuple(tables), tuple(found), chosen.number, contender.space.ask(chosen)
    )


def _study(job: Job, name: str, contender: Contender, space: Space[Choice], trials: int) -> Study:
    """Run one study to its end."""
    task, settings = job.task, job.fits.settings
    study = open_study(
        job.storage,
        *_of_study(task, settings, job.fits.run.root, name),
        prune_until=settings.epochs if space is contender.space else 0,
    )
    score = partial(score_choice, job.fits, contender.name)
    with job.fits.run.phase(f"search {name}"):
        search(study, space, score, trials, settings.seed, job.engine)
    return study


def _write(job: Job, found: list[Searched]) -> None:
    """Write ``trials.csv`` and ``search.json``."""
    objectives, root = job.task.objectives, job.fits.run.root
    trials = pd.concat([table for one in found for table in one.tables])
    write_csv(root / "trials.csv", trials)
    write_json(
        root / "search.json",
        {
            "schema": 1,
            "objectives": [
                {
                    "name": one.name,
                    "direction": one.direction,
                    "bound": job.fits.settings.objective_bound,
                }
                for one in objectives
            ],
            "pick": job.fits.settings.pick or "ideal",
            "studies": [_facts(one, job) for one in found],
        },
    )


def _facts(found: Searched, job: Job) -> dict[str, Any]:
    table = found.tables[0]
    return {
        "name": found.contender.name,
        "trial": found.trial,
        "front": table.loc[table["pareto"], "number"].tolist(),
        "confirmed": [one.facts(job.task.objectives) for one in found.confirmed],
        "units": unit_importance(table, job.task.objectives),
    }
