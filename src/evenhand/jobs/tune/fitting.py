"""Fits that workers make: of trials, of confirmation, and of the delivered models."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from evenhand.experiments.mitigation import build_mitigation
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, Trained, save_trained, train_model
from evenhand.experiments.task_cache import Fits
from evenhand.experiments.trials import Report
from evenhand.files import read_json, replacing, write_json
from evenhand.jobs.tune.contenders import untrained
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.networks.checkpoints import load_model
from evenhand.progress import bar
from evenhand.search.spaces import Choice
from evenhand.tables.predictions import write_predictions
from evenhand.training.device import make_accelerator
from evenhand.training.predict import predict_cohorts
from evenhand.training.tracking import tracked
from evenhand.workers import Engine, Job, complete

WEIGHTS, FACTS = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Delivery:
    """A model that a run delivers, and the fits of which it is one."""

    model: str
    study: str  # the contender whose trial it is
    trial: int
    choice: Choice
    seeds: tuple[int, ...]  # of the fits
    seed: int  # of the one that is delivered


def score_choice(
    fits: Fits[TuneSettings], name: str, choice: Choice, report: Report
) -> tuple[float, ...]:
    """Train a choice of a contender, in a worker, and return its targets."""
    return _trained(fits, name, choice, report).values


def keep_choice(
    fits: Fits[TuneSettings], name: str, choice: Choice, report: Report
) -> tuple[float, ...]:
    """Train a choice of a contender, in a worker, keep the fit and return its targets."""
    trained = _trained(fits, name, choice, report)
    folder = kept_fit(fits.run, name, choice)
    facts = {"lr": choice.lr, "seed": choice.seed, "warning": trained.warning}
    save_trained(fits.task(), folder, trained, **facts)
    return trained.values


def _trained(fits: Fits[TuneSettings], name: str, choice: Choice, report: Report) -> Trained:
    task, settings = fits.task(), fits.settings
    model, schedule = untrained(task, settings, name, choice)
    values = dict(choice.method_settings)
    mitigation = build_mitigation(choice.method, values, settings, task.splits.train)
    fit_settings = task.fit_settings(choice.lr, choice.seed)
    about = {
        "lr": choice.lr,
        "seed": choice.seed,
        "mask": " ".join(sorted(choice.mask)),
        "method": mitigation.text,
    }
    fit = f"{name}/{kept_fit(fits.run, name, choice).name}"
    with tracked(settings, fits.run.root, fit, about) as tracker:
        return train_model(task, model, schedule, fit_settings, report, mitigation, tracker)


def kept_fit(run: Run, name: str, choice: Choice) -> Path:
    """Return the folder of a contender's fit; it exists until the run has its models."""
    method = [choice.method, repr(choice.method_settings)]
    text = "\n".join([repr(choice.lr), str(choice.seed), *method, *sorted(choice.mask)])
    return fits_of(run, name) / hashlib.sha256(text.encode()).hexdigest()[:16]


def fits_of(run: Run, name: str) -> Path:
    """Return the folder that holds the fits of a contender."""
    return run.folder(name) / "fits"


def seed_predictions(run: Run, model: str, seed: int) -> Path:
    """Return the path of the predictions of one of the fits that a model was chosen from."""
    return run.folder(model) / "seeds" / f"{seed}.parquet"


def keep_alone(run: Run, name: str, choices: Iterable[Choice]) -> None:
    """Remove the fits of a contender, except those of the given choices."""
    kept = {kept_fit(run, name, choice) for choice in choices}
    for folder in fits_of(run, name).glob("*"):
        if folder not in kept:
            shutil.rmtree(folder)


def deliver_all(fits: Fits[TuneSettings], deliveries: Iterable[Delivery], engine: Engine) -> None:
    """Score the fits of every model that is not yet delivered, and store the delivered fit.

    Raises
    ------
    EvenhandError
        Workers die of one.
    """
    deliveries = list(deliveries)
    jobs = [
        Job(delivery.model, _deliver, (fits, delivery))
        for delivery in deliveries
        if not fits.run.predictions_file(delivery.model).exists()
    ]
    with fits.run.phase("chosen fits"), bar("chosen fits", len(jobs)) as advance:
        for job, _ in complete(engine, jobs):
            advance(text=job.name)
    for delivery in deliveries:
        shutil.rmtree(fits_of(fits.run, delivery.model), ignore_errors=True)


def _deliver(fits: Fits[TuneSettings], delivery: Delivery) -> None:
    """Score every split with each fit, in a worker; nothing else scores the test split."""
    task, run = fits.task(), fits.run
    for seed in sorted(delivery.seeds, key=lambda seed: seed == delivery.seed):  # it comes last
        fit = _trained_fit(fits, delivery, seed)
        predictions = predict_cohorts(
            load_model(fit), task.splits.items(), make_accelerator(task.settings)
        )
        if len(delivery.seeds) > 1:
            write_predictions(seed_predictions(run, delivery.model, seed), predictions)
    _place(task, run, delivery, fit)
    write_predictions(run.predictions_file(delivery.model), predictions)


def _trained_fit(fits: Fits[TuneSettings], delivery: Delivery, seed: int) -> Path:
    """Return the folder of a fit; train it where the folder lacks it."""
    choice = replace(delivery.choice, seed=seed)
    folder = kept_fit(fits.run, delivery.study, choice)
    if not (folder / FACTS).exists():
        keep_choice(fits, delivery.study, choice, lambda epoch, values: None)
    return folder


def _place(task: Task, run: Run, delivery: Delivery, fit: Path) -> None:
    """Copy the delivered fit into the model's folder, and note which trial it comes from."""
    target = run.folder(delivery.model)
    with replacing(target / WEIGHTS) as part:
        shutil.copyfile(fit / WEIGHTS, part)
    about = {"study": delivery.study, "trial": delivery.trial, "seeds": [*delivery.seeds]}
    write_json(target / FACTS, read_json(fit / FACTS) | about)
