"""The fits of a benchmark: an entry in a fold with a seed, by workers; what is done stays."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import numpy as np
import torch
from pydantic import BaseModel

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, save_trained, train
from evenhand.files import checked, read_object, write_json
from evenhand.jobs.benchmark.entries import ERM, Entry
from evenhand.jobs.benchmark.folds import entry_task, prepared_folds
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.trials import Trial, run_trials
from evenhand.networks.checkpoints import load_model, read_model_record, save_tensors
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.tables.predictions import write_predictions
from evenhand.training.device import make_accelerator
from evenhand.training.predict import BATCH, predict, unit
from evenhand.training.tracking import tracked
from evenhand.workers import Engine, Job, complete

SCORED = ("val", "test")
"""Splits that a finished fit has scored."""


@dataclass(frozen=True)
class Fit:
    """An entry that is trained in a fold with a seed."""

    entry: Entry
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.entry.name}, fold {self.fold + 1}, seed {self.seed}"

    def folder(self, run: Run) -> Path:
        """Return where it is kept."""
        return run.root / "fits" / self.entry.name / f"fold{self.fold + 1}-seed{self.seed}"

    def predictions(self, run: Run) -> Path:
        """Return its predictions of validation and test; they are there once it is finished."""
        return self.folder(run) / "predictions.parquet"


class FitRecord(BaseModel, frozen=True):
    """What a fit chose on validation patients (``fit.json``)."""

    lr: float
    """The learning rate with the best target."""
    value: float
    """That target."""
    values: tuple[float | None, ...]
    """The target at each learning rate; None where training diverged."""


@dataclass(frozen=True)
class Work:
    """What every fit is made with, and where it is kept; workers are sent it."""

    settings: BenchmarkSettings
    fingerprint: str
    run: Run
    keeps_features: bool

    def task(self, fit: Fit) -> Task:
        """Return, in a worker, the task of a fit.

        Raises
        ------
        EvenhandError
            This node does not share the data, or the run directory.
        """
        if prepared_folds(self.settings).fingerprint != self.fingerprint:
            raise EvenhandError(
                f"on {gethostname()}, {self.settings.data} holds other data than where the command "
                "was given. Put the data in a folder that all nodes share."
            )
        if not (self.run.root / "run.json").is_file():
            raise EvenhandError(
                f"on {gethostname()}, there is no {self.run.root}, where the run is to be kept. "
                "Name a folder with --out that all nodes share."
            )
        return entry_task(self.settings, fit.entry, fit.fold)


def fits_of(entries: Sequence[Entry], settings: BenchmarkSettings) -> Iterator[Fit]:
    """Yield every fit: entries of one fold and seed follow each other, folds come last."""
    for number in range(settings.seeds):
        for fold in range(settings.folds):
            for entry in entries:
                if entry.stage == "training":
                    yield Fit(entry, fold, settings.seed + number)


def fit_all(work: Work, fits: Sequence[Fit], engine: Engine) -> None:
    """Make the fits that are not there yet, by the engine's workers.

    Raises
    ------
    EvenhandError
        Workers die of one, or every learning rate of one diverged.
    """
    todo = [one for one in fits if not one.predictions(work.run).exists()]
    jobs = [Job(one.name, make_fit, (work, one)) for one in todo]
    with work.run.phase("training"), bar("benchmark", len(fits)) as advance:
        advance(len(fits) - len(todo))
        for job, _ in complete(engine, jobs):
            advance(text=job.name)
    for one in fits:  # a kill may have come before a worker did so
        _remove_trials(work.run, one)


def make_fit(work: Work, fit: Fit) -> None:
    """Train at each learning rate, and score the test patients with the best model alone."""
    task, run = work.task(fit), work.run

    def score(trial: Trial) -> float:
        return _score(task, run, fit, trial)

    scored = run_trials(task, work.settings, fit.entry, fit.seed, score)
    values = [value for _, value in scored]
    best = _best(values, maximise=task.targets[0].maximise)
    if best is None:
        raise EvenhandError(
            f"{fit.name}: training diverged at every learning rate. Give a lower --lr-max."
        )
    model = load_model(_trial_folder(run, fit, best))
    shown = tuple(value if math.isfinite(value) else None for value in values)
    record = FitRecord(lr=scored[best][0], value=values[best], values=shown)
    write_json(fit.folder(run) / "fit.json", record.model_dump())
    cohorts = [(name, part) for name, part in task.splits.items() if name in SCORED]
    if work.keeps_features and fit.entry.name == ERM:
        features = {name: _features(model, part, task) for name, part in cohorts}
        save_tensors(fit.folder(run) / "features.safetensors", features)
    predictions = predict(model, cohorts, make_accelerator(task.settings))
    write_predictions(fit.predictions(run), predictions)  # last: it says that the fit is finished
    _remove_trials(run, fit)


def fit_record(run: Run, fit: Fit) -> FitRecord:
    """Return what a finished fit chose."""
    path = fit.folder(run) / "fit.json"
    return checked(FitRecord, read_object(path), path)


def _score(task: Task, run: Run, fit: Fit, trial: Trial) -> float:
    """Return the validation target of a trial; train where that is not done yet."""
    folder = _trial_folder(run, fit, trial.number)
    if not (folder / "model.json").exists():
        model, schedule = trial.start()
        fit_settings, about = task.fit_settings(trial.lr, fit.seed), {"lr": trial.lr}
        name = folder.relative_to(run.root / "fits").as_posix()
        with tracked(task.settings, run.root, name, about | {"seed": fit.seed}) as tracker:
            trained = train(task, model, schedule, fit_settings, tracker=tracker)
        if not math.isfinite(trained.values[0]):
            return math.nan
        save_trained(task, folder, trained, lr=trial.lr, seed=fit.seed)
    value = read_model_record(folder).val.get(task.targets[0].name)
    return math.nan if value is None else value


def _best(values: Sequence[float], *, maximise: bool) -> int | None:
    """Return the place of the best value, of several the first; None where all are NaN."""
    oriented = [value if maximise else -value for value in values]
    places = [place for place, value in enumerate(oriented) if math.isfinite(value)]
    return max(places, key=oriented.__getitem__, default=None)


def _features(model: Model, cohort: Cohort, task: Task) -> torch.Tensor:
    """Return what the last layer takes of every sample, ``(n, D)``."""
    accelerator = make_accelerator(task.settings)
    model = model.to(accelerator.device).eval()
    source = BatchSource(cohort, accelerator.device)
    parts = []
    with torch.inference_mode(), accelerator.autocast():
        for start in range(0, len(source), BATCH):
            places = np.arange(start, min(start + BATCH, len(source)))
            parts.append(model.features(unit(source.take(places).inputs)).float().cpu())
    return torch.cat(parts)


def _trial_folder(run: Run, fit: Fit, number: int) -> Path:
    return fit.folder(run) / f"trial{number}"


def _remove_trials(run: Run, fit: Fit) -> None:
    for folder in fit.folder(run).glob("trial*"):
        shutil.rmtree(folder)
