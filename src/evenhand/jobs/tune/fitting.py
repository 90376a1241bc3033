"""The fits of a search, which run in workers: trials, confirmation, and delivered models."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from evenhand.experiments.mitigation import build_mitigation
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Trained, save_trained, train_model
from evenhand.experiments.task_cache import FitContext
from evenhand.experiments.trials import Report
from evenhand.files import read_json, replacing, write_json
from evenhand.jobs.tune.contenders import make_untrained
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.networks.model import load_model
from evenhand.progress import bar
from evenhand.search.spaces import Choice
from evenhand.tables.predictions import write_predictions
from evenhand.training.device import make_accelerator
from evenhand.training.predict import predict_cohorts
from evenhand.training.tracking import open_trackers
from evenhand.workers import Engine, Job, complete_jobs

WEIGHTS, RECORD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Delivery:
    """A model that a run delivers: one of several fits of the same choice.

    Attributes
    ----------
    model
        The name of the model.
    study, trial
        The contender and the number of the trial whose choice was fitted.
    choice
        The choice.
    seeds
        The seeds of all fits.
    seed
        The seed of the delivered fit.
    """

    model: str
    study: str
    trial: int
    choice: Choice
    seeds: tuple[int, ...]
    seed: int


def score_choice(
    context: FitContext[TuneSettings], name: str, choice: Choice, report: Report
) -> tuple[float, ...]:
    """Train a choice of a contender, in a worker, and return the values of the targets."""
    return _train_choice(context, name, choice, report).values


def score_and_save_choice(
    context: FitContext[TuneSettings], name: str, choice: Choice, report: Report
) -> tuple[float, ...]:
    """Train a choice of a contender, in a worker; save the fit, return the targets' values."""
    trained = _train_choice(context, name, choice, report)
    folder = fit_folder(context.run, name, choice)
    record = {"lr": choice.lr, "seed": choice.seed, "warning": trained.warning}
    save_trained(context.task(), folder, trained, **record)
    return trained.values


def _train_choice(
    context: FitContext[TuneSettings], name: str, choice: Choice, report: Report
) -> Trained:
    task, settings = context.task(), context.settings
    model, schedule = make_untrained(task, settings, name, choice)
    values = dict(choice.method_settings)
    mitigation = build_mitigation(choice.method, values, settings, task.splits.train)
    fit_settings = task.fit_settings(choice.lr, choice.seed)
    tracked_values = {
        "lr": choice.lr,
        "seed": choice.seed,
        "mask": " ".join(sorted(choice.mask)),
        "method": mitigation.text,
    }
    fit = f"{name}/{fit_folder(context.run, name, choice).name}"
    with open_trackers(settings, context.run.root, fit, tracked_values) as tracker:
        return train_model(task, model, schedule, fit_settings, report, mitigation, tracker)


def fit_folder(run: Run, name: str, choice: Choice) -> Path:
    """Return the folder of a contender's fit, which exists until the models are delivered."""
    method = [choice.method, repr(choice.method_settings)]
    text = "\n".join([repr(choice.lr), str(choice.seed), *method, *sorted(choice.mask)])
    return fits_folder(run, name) / hashlib.sha256(text.encode()).hexdigest()[:16]


def fits_folder(run: Run, name: str) -> Path:
    """Return the folder that holds all fits of a contender."""
    return run.folder(name) / "fits"


def seed_predictions(run: Run, model: str, seed: int) -> Path:
    """Return the predictions file of a model's fit with a seed."""
    return run.folder(model) / "seeds" / f"{seed}.parquet"


def remove_other_fits(run: Run, name: str, choices: Iterable[Choice]) -> None:
    """Remove the fits of a contender, except those of some choices."""
    needed = {fit_folder(run, name, choice) for choice in choices}
    for folder in fits_folder(run, name).glob("*"):
        if folder not in needed:
            shutil.rmtree(folder)


def deliver_all(
    context: FitContext[TuneSettings], deliveries: Iterable[Delivery], engine: Engine
) -> None:
    """Score the fits of each model, and store the delivered one; skip models with predictions.

    Raises
    ------
    EvenhandError
        If a worker dies.
    """
    deliveries = list(deliveries)
    jobs = [
        Job(delivery.model, _deliver, (context, delivery))
        for delivery in deliveries
        if not context.run.predictions_file(delivery.model).exists()
    ]
    with context.run.phase("chosen fits"), bar("chosen fits", len(jobs)) as advance:
        for job, _ in complete_jobs(engine, jobs):
            advance(text=job.name)
    for delivery in deliveries:
        shutil.rmtree(fits_folder(context.run, delivery.model), ignore_errors=True)


def _deliver(context: FitContext[TuneSettings], delivery: Delivery) -> None:
    """Score every split with each fit, in a worker; only this function scores the test split."""
    task, run = context.task(), context.run
    accelerator = make_accelerator(task.settings)
    delivered_last = sorted(delivery.seeds, key=lambda seed: seed == delivery.seed)
    for seed in delivered_last:
        fit = _saved_fit(context, delivery, seed)
        predictions = predict_cohorts(load_model(fit), task.splits.items(), accelerator)
        if len(delivery.seeds) > 1:
            write_predictions(seed_predictions(run, delivery.model, seed), predictions)
    _copy_fit(run, delivery, fit)
    write_predictions(run.predictions_file(delivery.model), predictions)


def _saved_fit(context: FitContext[TuneSettings], delivery: Delivery, seed: int) -> Path:
    """Return the folder of a fit; train the fit if it is not saved."""
    choice = replace(delivery.choice, seed=seed)
    folder = fit_folder(context.run, delivery.study, choice)
    if not (folder / RECORD).exists():
        score_and_save_choice(context, delivery.study, choice, lambda epoch, values: None)
    return folder


def _copy_fit(run: Run, delivery: Delivery, fit: Path) -> None:
    """Copy the delivered fit into the model's folder, and record its trial."""
    target = run.folder(delivery.model)
    with replacing(target / WEIGHTS) as part:
        shutil.copyfile(fit / WEIGHTS, part)
    origin = {"study": delivery.study, "trial": delivery.trial, "seeds": [*delivery.seeds]}
    write_json(target / RECORD, read_json(fit / RECORD) | origin)
