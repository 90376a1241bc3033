"""Trials and final models made by workers."""

from __future__ import annotations

from collections.abc import Iterable

from evenhand.finetune.prepared import Fits
from evenhand.finetune.training import keep, train
from evenhand.progress import bar
from evenhand.search.loop import Report
from evenhand.tune.contenders import untrained
from evenhand.tune.settings import TuneSettings
from evenhand.tune.spaces import Choice
from evenhand.workers import Engine, Job, complete


def score_choice(
    fits: Fits[TuneSettings], name: str, choice: Choice, report: Report
) -> tuple[float, ...]:
    """Train a choice of a contender, in a worker, and return its objectives."""
    task = fits.task()
    model, schedule = untrained(task, fits.settings, name, choice)
    return train(task, model, schedule, task.fit_settings(choice.lr, choice.seed), report).values


def fit_all(
    fits: Fits[TuneSettings], chosen: Iterable[tuple[str, Choice, int]], engine: Engine
) -> None:
    """Make the models that are not kept yet: of a contender each, its choice and their trial.

    Raises
    ------
    EvenhandError
        Workers die of one.
    """
    jobs = [
        Job(name, _fit, (fits, name, choice, trial))
        for name, choice, trial in chosen
        if not fits.run.predictions(name).exists()
    ]
    with fits.run.phase("final fits"), bar("final fits", len(jobs)) as advance:
        for job, _ in complete(engine, jobs):
            advance(text=job.name)


def _fit(fits: Fits[TuneSettings], name: str, choice: Choice, trial: int) -> None:
    """Train a choice once more, in a worker, keep the model and score every split."""
    task = fits.task()
    model, schedule = untrained(task, fits.settings, name, choice)
    trained = train(task, model, schedule, task.fit_settings(choice.lr, choice.seed))
    keep(task, fits.run, name, trained, lr=choice.lr, trial=trial)
