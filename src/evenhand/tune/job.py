"""`evenhand tune`: FairTune, its baselines, and the evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from optuna.study import Study

from evenhand.audit.evaluate import evaluate
from evenhand.files import write_text
from evenhand.finetune.job import begin, model_name
from evenhand.finetune.training import Task, keep, make_task, seconds_per_fit, train
from evenhand.models.masks import Mask, Schedule, constant
from evenhand.models.model import Model
from evenhand.models.strategies import find_strategy
from evenhand.models.units import find_family, is_transformer
from evenhand.runs import Run
from evenhand.tune.settings import TuneSettings
from evenhand.tune.spaces import Choice, Space, mask_space, rate_space
from evenhand.tune.study import open_study, search, trials_table

FAIRTUNE = "fairtune"


@dataclass(frozen=True)
class Contender:
    """One thing that is searched: FairTune's masks, or a baseline's learning rate."""

    name: str
    space: Space
    first: tuple[dict[str, int], ...]
    """Parameters that are tried before any others."""
    prepare: Callable[[Choice], tuple[Model, Schedule]]
    """Makes the untrained model of a choice, and its schedule."""


def tune(
    settings: TuneSettings,
    out: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Search masks and learning rates on validation fairness, then fit the best and report.

    Each baseline gets a search of its learning rate with as many trials and epochs, by the same
    objective. The test split is scored once per model, after all searches have ended.

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
    task = make_task(settings)
    contenders = [
        _fairtune(task, settings),
        *(_baseline(task, settings, s) for s in settings.baseline),
    ]
    run = begin("tune", task, out, [one.name for one in contenders], overwrite=overwrite)
    say(_forecast(task, settings, len(contenders)))
    studies = [_searched(task, settings, run, one) for one in contenders]
    tables = [
        trials_table(study, one.space) for study, one in zip(studies, contenders, strict=True)
    ]
    write_text(run.root / "trials.csv", pd.concat(tables).to_csv(index=False, lineterminator="\n"))
    for contender, study in zip(contenders, studies, strict=True):
        if not run.predictions(contender.name).exists():
            _fit_best(task, run, contender, study)
    with run.phase("evaluation"):
        evaluate(run, chosen=FAIRTUNE)
    run.finish(chosen=FAIRTUNE)
    return run


def _fairtune(task: Task, settings: TuneSettings) -> Contender:
    backbone = task.model().backbone
    auto = "norm-attn-mlp" if is_transformer(backbone) else "conv-norm"
    family = find_family(backbone, auto if settings.family == "auto" else settings.family)
    space = mask_space(family, (settings.lr_min, settings.lr_max))
    known = tuple({unit.name: bit for unit in family.units} for bit in (1, 0))
    return Contender(FAIRTUNE, space, known, lambda choice: (task.model(), constant(choice.mask)))


def _baseline(task: Task, settings: TuneSettings, name: str) -> Contender:
    strategy = find_strategy(name)

    def prepare(choice: Choice) -> tuple[Model, Schedule]:
        return strategy(task.model(), settings.seed)

    mask: Mask = strategy(task.model(), settings.seed)[1](0)
    space = rate_space(mask, (settings.lr_min, settings.lr_max))
    return Contender(model_name(name), space, (), prepare)


def _forecast(task: Task, settings: TuneSettings, contenders: int) -> str:
    fits = contenders * (settings.trials + 1)
    minutes = fits * seconds_per_fit(task, task.model()) / 60
    return (
        f"{fits} fits at most: {contenders} searches of {settings.trials} trials and their final "
        f"fits, {settings.epochs} epochs each. At most about {max(1, round(minutes))} min; pruned "
        "trials and frozen layers make it less."
    )


def _searched(task: Task, settings: TuneSettings, run: Run, contender: Contender) -> Study:
    """Run a contender's study to its end."""
    storage = settings.storage or f"sqlite:///{(run.root / 'study.db').resolve()}"
    name = f"{run.root.resolve().name}/{contender.name}"
    facts = run.facts
    identity = json.dumps([facts["settings"], facts["fingerprint"]], sort_keys=True)
    study = open_study(storage, name, task.objective.direction, identity)

    def score(choice: Choice, report: Callable[[int, float], None]) -> float:
        model, schedule = contender.prepare(choice)
        return train(task, model, schedule, choice.lr, report)[1]

    for known in contender.first:
        study.enqueue_trial(known, skip_if_exists=True)
    with run.phase(f"search {contender.name}"):
        search(study, contender.space, score, settings.trials, settings.seed)
    return study


def _fit_best(task: Task, run: Run, contender: Contender, study: Study) -> None:
    best = study.best_trial
    choice = contender.space(best)
    with run.phase(f"fit {contender.name}"):
        model, schedule = contender.prepare(choice)
        model, value = train(task, model, schedule, choice.lr)
        keep(
            task,
            run,
            contender.name,
            model,
            choice.mask,
            lr=choice.lr,
            val=value,
            trial=best.number,
        )
