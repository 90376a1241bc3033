"""The fits of a benchmark: an entry in a fold with a seed, by workers; what is done stays."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, save_trained, train_model
from evenhand.files import checked, read_object, write_json
from evenhand.jobs.benchmark.adjusting import adjust
from evenhand.jobs.benchmark.entries import ERM, Entry
from evenhand.jobs.benchmark.external import SPLIT, external_cohort
from evenhand.jobs.benchmark.folds import Folds, entry_task, prepared_folds
from evenhand.jobs.benchmark.probes import probe_network
from evenhand.jobs.benchmark.pruning import FairPrune, prune_model
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.trials import Trial, run_trials
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.jobs.pretrain.training import train_encoder
from evenhand.networks.checkpoints import load_model, read_model_record, save_model
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions
from evenhand.training.device import make_accelerator
from evenhand.training.predict import BATCH, class_probabilities, predict_cohorts, unit
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

    def external(self, run: Run) -> Path:
        """Return its predictions of patients of elsewhere, where there are some."""
        return self.folder(run) / "external.parquet"


class EntryFitRecord(BaseModel, frozen=True):
    """What a fit chose on validation patients (``fit.json``)."""

    lr: float
    """The learning rate with the best target."""
    value: float
    """That target."""
    values: tuple[float | None, ...]
    """The target at each learning rate; None where training diverged. Of a pruning, in each step
    where the target could be measured."""
    sparsity: float | None = None
    """The share of the weights that is gone, where it was pruned."""


@dataclass(frozen=True)
class Work:
    """What every fit is made with, and where it is kept; workers are sent it."""

    settings: BenchmarkSettings
    fingerprint: str
    run: Run

    @classmethod
    def of(cls, settings: BenchmarkSettings, folds: Folds, run: Run) -> Work:
        """Return the work of a run, whose folder every worker finds."""
        return cls(settings, folds.fingerprint, Run(run.root.resolve()))

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
        entry = Entry(ERM) if fit.entry.is_derived else fit.entry
        return entry_task(self.settings, entry, fit.fold)


def fits_of(entries: Sequence[Entry], settings: BenchmarkSettings) -> Iterator[Fit]:
    """Yield every fit: entries of one fold and seed follow each other, folds come last.

    What is made from the network of `ERM` comes right behind it.
    """
    derived = [entry for entry in entries if entry.is_derived]
    trained = [entry for entry in entries if entry.stage == "training"]
    for number in range(settings.seeds):
        for fold in range(settings.folds):
            for entry in (trained[0], *derived, *trained[1:]):
                yield Fit(entry, fold, settings.seed + number)


def fit_all(work: Work, fits: Sequence[Fit], engine: Engine) -> None:
    """Make the fits that are not there yet, by the engine's workers.

    Raises
    ------
    EvenhandError
        Workers die of one, or every learning rate of one diverged.
    """
    todo = [fit for fit in fits if not fit.predictions(work.run).exists()]
    jobs = [Job(part[0].name, make_fits, (work, part)) for part in _parts(todo)]
    with work.run.phase("training"), bar("benchmark", len(fits)) as advance:
        advance(len(fits) - len(todo))
        for job, _ in complete(engine, jobs):
            advance(len(job.args[1]), text=job.name)
    for fit in fits:  # a kill may have come before a worker did so
        _remove_trials(work.run, fit)


def _parts(fits: Sequence[Fit]) -> list[tuple[Fit, ...]]:
    """Put what is made from the network of `ERM` behind the fit of that, as work of one worker."""
    parts: list[tuple[Fit, ...]] = []
    for fit in fits:
        before = parts[-1][0] if parts else None
        follows = before is not None and (before.fold, before.seed) == (fit.fold, fit.seed)
        if follows and fit.entry.is_derived:
            parts[-1] = (*parts[-1], fit)
        else:
            parts.append((fit,))
    return parts


def make_fits(work: Work, fits: Sequence[Fit]) -> None:
    """Make fits of one fold and seed, one after the other."""
    for fit in fits:
        if fit.entry.is_derived:
            make_derived(work, fit)
        else:
            make_fit(work, fit)


def make_fit(work: Work, fit: Fit) -> None:
    """Train at each learning rate, and score the test patients with the best model alone."""
    task, run = work.task(fit), work.run
    encoder = _pretrained(work, task, fit) if fit.entry.objective else None

    def score(trial: Trial) -> float:
        return _score(task, run, fit, trial)

    scored = run_trials(task, work.settings, fit.entry, fit.seed, score, encoder)
    values = [value for _, value in scored]
    best = _best(values, maximise=task.targets[0].maximise)
    if best is None:
        raise EvenhandError(
            f"{fit.name}: training diverged at every learning rate. Give a lower --lr-max."
        )
    model = load_model(_trial_folder(run, fit, best))
    shown = tuple(value if math.isfinite(value) else None for value in values)
    record = EntryFitRecord(lr=scored[best][0], value=values[best], values=shown)
    write_json(fit.folder(run) / "fit.json", record.model_dump())
    if fit.entry.name == ERM:
        save_model(erm_folder(run, fit), model)
    _finish(work, task, fit, model)
    _remove_trials(run, fit)  # the predictions say that the fit is finished


def make_derived(work: Work, fit: Fit) -> None:
    """Prune the network of `ERM` of a fold and seed, or fit its last layer anew; and score."""
    task, run = work.task(fit), work.run
    model = load_model(erm_folder(run, fit))
    if fit.entry.stage == "pruning":
        erm = fit_record(run, replace(fit, entry=Entry(ERM)))
        record, model = _pruned(task, model, fit, erm)
        write_json(fit.folder(run) / "fit.json", record.model_dump())
        _finish(work, task, fit, model)
        return
    parts = [*_scored(task), *_external(work, task)]
    features = {name: _features(model, part, task) for name, part in parts}
    before = with_external(run, replace(fit, entry=Entry(ERM)))
    after = adjust(fit.entry, before, work.settings, fit.seed, features).predictions
    outside = after.of_split(SPLIT) if work.settings.external else None
    own = replace(after, table=after.table[after.table["split"] != SPLIT].reset_index(drop=True))
    _write(work, fit, own, outside)


def with_external(run: Run, fit: Fit) -> Predictions:
    """Return the predictions of a fit, with those of patients of elsewhere as a split of theirs."""
    own = read_predictions(fit.predictions(run))
    if not fit.external(run).exists():
        return own
    outside = read_predictions(fit.external(run)).table.assign(split=SPLIT)
    return replace(own, table=pd.concat([own.table, outside], ignore_index=True))


def _finish(work: Work, task: Task, fit: Fit, model: Model) -> None:
    """Score with the network of a fit, and probe it where that is asked for."""
    own = predicted(task, model)
    if work.settings.probe:
        probe_network(fit.folder(work.run), task, model, own)
    _write(work, fit, own, _elsewhere(work, task, model))


def _write(work: Work, fit: Fit, own: Predictions, outside: Predictions | None) -> None:
    """Keep what a fit says; the predictions come last, as they say that it is finished."""
    if outside is not None:
        table = outside.table.assign(split="test")
        write_predictions(fit.external(work.run), replace(outside, table=table))
    write_predictions(fit.predictions(work.run), own)


def _external(work: Work, task: Task) -> list[tuple[str, Cohort]]:
    if work.settings.external is None:
        return []
    return [(SPLIT, external_cohort(work.settings, task.splits.train.classes))]


def _elsewhere(work: Work, task: Task, model: Model) -> Predictions | None:
    """Return what a model says of patients of elsewhere; None where there are none."""
    cohorts = _external(work, task)
    return predict_cohorts(model, cohorts, make_accelerator(task.settings)) if cohorts else None


def _pruned(
    task: Task, model: Model, fit: Fit, erm: EntryFitRecord
) -> tuple[EntryFitRecord, Model]:
    """Return the pruned model, and what was chosen on validation."""
    pruned = prune_model(task, model, FairPrune.of(fit.entry.pruning), fit.seed)
    assert isinstance(pruned.module, Model)
    accelerator = make_accelerator(task.settings)
    val = BatchSource(task.splits.val, accelerator.device)
    value = task.values(class_probabilities(pruned.module, val, accelerator))[0]
    sign = 1.0 if task.targets[0].maximise else -1.0
    curve = tuple(
        sign * float(value) if value == value else None for value in pruned.curve["value"]
    )
    return EntryFitRecord(
        lr=erm.lr, value=value, values=curve, sparsity=pruned.sparsity
    ), pruned.module


def _pretrained(work: Work, task: Task, fit: Fit) -> Path:
    """Return the encoder of a fit, trained without labels on the fold's training patients."""
    folder = fit.folder(work.run) / "encoder"
    settings = task.settings
    if not (folder / "model.json").exists():
        contrast = ContrastSettings(
            ssl=fit.entry.objective or "",
            epochs=work.settings.pretrain_epochs,
            device=settings.device,
            precision=settings.precision,
            seed=fit.seed,
        )
        about = {"lr": contrast.lr, "seed": fit.seed, "ssl": contrast.ssl}
        name = folder.relative_to(work.run.root / "fits").as_posix()
        with tracked(settings, work.run.root, name, about) as tracker:
            model, curve = train_encoder(
                task.model(fit.seed), task.splits.train, contrast, fit.seed, tracker=tracker
            )
        loss = curve.judged[curve.best - 1]
        save_model(folder, model, ssl=contrast.ssl, epoch=curve.best, loss=loss)
    return folder / "model.safetensors"


def predicted(task: Task, model: Model) -> Predictions:
    """Return what a model says of the validation and test patients of its fold."""
    return predict_cohorts(model, _scored(task), make_accelerator(task.settings))


def erm_folder(run: Run, fit: Fit) -> Path:
    """Return where the network of `ERM` of the fold and seed of a fit is kept."""
    return replace(fit, entry=Entry(ERM)).folder(run) / "model"


def _scored(task: Task) -> list[tuple[str, Cohort]]:
    return [(name, part) for name, part in task.splits.items() if name in SCORED]


def fit_record(run: Run, fit: Fit) -> EntryFitRecord:
    """Return what a finished fit chose."""
    path = fit.folder(run) / "fit.json"
    return checked(EntryFitRecord, read_object(path), path)


def _score(task: Task, run: Run, fit: Fit, trial: Trial) -> float:
    """Return the validation target of a trial; train where that is not done yet."""
    folder = _trial_folder(run, fit, trial.number)
    if not (folder / "model.json").exists():
        model, schedule = trial.start()
        fit_settings, about = task.fit_settings(trial.lr, fit.seed), {"lr": trial.lr}
        name = folder.relative_to(run.root / "fits").as_posix()
        with tracked(task.settings, run.root, name, about | {"seed": fit.seed}) as tracker:
            trained = train_model(
                task, model, schedule, fit_settings, mitigation=trial.mitigation, tracker=tracker
            )
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


def _features(model: Model, cohort: Cohort, task: Task) -> NDArray[np.float64]:
    """Return what the last layer takes of every sample, ``(n, D)``."""
    accelerator = make_accelerator(task.settings)
    model = model.to(accelerator.device).eval()
    source = BatchSource(cohort, accelerator.device)
    parts = []
    with torch.inference_mode(), accelerator.autocast():
        for start in range(0, len(source), BATCH):
            places = np.arange(start, min(start + BATCH, len(source)))
            parts.append(model.features(unit(source.take(places).inputs)).float().cpu())
    return torch.cat(parts).numpy().astype(np.float64)


def _trial_folder(run: Run, fit: Fit, number: int) -> Path:
    return fit.folder(run) / f"trial{number}"


def _remove_trials(run: Run, fit: Fit) -> None:
    for name in ("trial*", "encoder"):
        for folder in fit.folder(run).glob(name):
            shutil.rmtree(folder)
