"""The fits of a benchmark, in workers: each trains, prunes or adjusts an entry in a fold."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError, count_text
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, Trained, save_trained, train_model
from evenhand.experiments.task_cache import check_node
from evenhand.files import DamagedError, finite_or_none, read_json_record, write_json
from evenhand.jobs.benchmark.adjusting import adjust_predictions
from evenhand.jobs.benchmark.entries import ERM, Entry
from evenhand.jobs.benchmark.external import SPLIT, external_cohort
from evenhand.jobs.benchmark.folds import Folds, entry_task, prepared_folds
from evenhand.jobs.benchmark.probes import probe_network
from evenhand.jobs.benchmark.pruning import FairPrune, prune_model
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.trials import Trial, run_trials
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.jobs.pretrain.training import train_tracked_encoder
from evenhand.networks.model import Model, load_model, save_model
from evenhand.progress import bar
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions
from evenhand.training.device import make_accelerator
from evenhand.training.predict import BATCH, class_probabilities, predict_cohorts, to_unit_range
from evenhand.training.tracking import open_trackers
from evenhand.workers import Engine, Job, complete_jobs

SCORED = ("val", "test")
"""The splits that each fit scores."""


@dataclass(frozen=True)
class Fit:
    """The fit of an entry in a fold with a seed."""

    entry: Entry
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """The name in messages."""
        return f"{self.entry.name}, fold {self.fold + 1}, seed {self.seed}"

    def folder(self, run: Run) -> Path:
        """Return the folder of the fit."""
        return run.root / "fits" / self.entry.name / f"fold{self.fold + 1}-seed{self.seed}"

    def predictions(self, run: Run) -> Path:
        """Return the predictions file of validation and test, which exists once it is finished."""
        return self.folder(run) / "predictions.parquet"

    def external(self, run: Run) -> Path:
        """Return the predictions file of external patients."""
        return self.folder(run) / "external.parquet"


class EntryFitRecord(BaseModel, frozen=True):
    """The choice of a fit on validation patients (``fit.json``).

    Attributes
    ----------
    lr
        The learning rate with the best target.
    value
        The target at this learning rate.
    values
        The target at each learning rate, None if training diverged. For a pruning, the target
        after each step, None if it is undefined.
    sparsity
        The share of pruned weights; None unless the fit is a pruning.
    """

    lr: float
    value: float
    values: tuple[float | None, ...]
    sparsity: float | None = None


class TrialsRecord(BaseModel, frozen=True):
    """The finished trials of an unfinished fit (``trials.json``).

    Attributes
    ----------
    values
        The validation target of each trial, in order; None if training diverged. Only the network
        of the best is saved.
    """

    values: tuple[float | None, ...]


@dataclass(frozen=True)
class BenchmarkContext:
    """What workers need to prepare the tasks of a benchmark: it is sent to them with each fit."""

    settings: BenchmarkSettings
    fingerprint: str
    run: Run

    @classmethod
    def of(cls, settings: BenchmarkSettings, folds: Folds, run: Run) -> BenchmarkContext:
        """Return the context of a run; its path is absolute, as workers may run elsewhere."""
        return cls(settings, folds.fingerprint, Run(run.root.resolve()))

    def task(self, fit: Fit) -> Task:
        """Return, in a worker, the task of a fit.

        Raises
        ------
        EvenhandError
            If this node does not share the data or the run directory.
        """
        same_data = prepared_folds(self.settings).fingerprint == self.fingerprint
        check_node(self.settings.data, self.run, same_data=same_data)
        entry = Entry(ERM) if fit.entry.is_derived else fit.entry
        return entry_task(self.settings, entry, fit.fold)


def list_fits(entries: Sequence[Entry], settings: BenchmarkSettings) -> Iterator[Fit]:
    """Yield every fit, ordered by seed and fold.

    Within a fold and seed, `ERM` and the entries that need its network come first.
    """
    derived = [entry for entry in entries if entry.is_derived]
    trained = [entry for entry in entries if entry.stage == "training"]
    for number in range(settings.seeds):
        for fold in range(settings.folds):
            for entry in (trained[0], *derived, *trained[1:]):
                yield Fit(entry, fold, settings.seed + number)


def fit_entries(context: BenchmarkContext, fits: Sequence[Fit], engine: Engine) -> None:
    """Run the fits that are not finished, in workers.

    Raises
    ------
    EvenhandError
        If a worker dies, or a fit diverges at every learning rate.
    """
    todo = [fit for fit in fits if not fit.predictions(context.run).exists()]
    jobs = [Job(group[0].name, run_fits, (context, group)) for group in _group_by_network(todo)]
    with context.run.phase("training"), bar("benchmark", len(fits)) as advance:
        advance(len(fits) - len(todo))
        for job, _ in complete_jobs(engine, jobs):
            advance(len(job.args[1]), text=job.name)
    for fit in fits:  # a killed worker may have left trials
        _remove_trials(context.run, fit)


def _group_by_network(fits: Sequence[Fit]) -> list[tuple[Fit, ...]]:
    """Return the fits in groups, each for one worker: `ERM`, and the fits that need its network."""
    groups: list[tuple[Fit, ...]] = []
    for fit in fits:
        previous = groups[-1][0] if groups else None
        follows = previous is not None and (previous.fold, previous.seed) == (fit.fold, fit.seed)
        if follows and fit.entry.is_derived:
            groups[-1] = (*groups[-1], fit)
        else:
            groups.append((fit,))
    return groups


def run_fits(context: BenchmarkContext, fits: Sequence[Fit]) -> None:
    """Run fits of one fold and seed, in their order."""
    for fit in fits:
        if fit.entry.is_derived:
            run_derived_fit(context, fit)
        else:
            run_fit(context, fit)


def run_fit(context: BenchmarkContext, fit: Fit) -> None:
    """Train every trial of a fit, and score the test patients with the best model only."""
    task, run = context.task(fit), context.run
    maximise = task.targets[0].maximise
    _refuse_damaged_trials(run, fit, context.settings.trials, maximise=maximise)
    encoder = _pretrain_encoder(context, task, fit) if fit.entry.objective else None

    def score(trial: Trial) -> float:
        return _score_trial(task, run, fit, trial)

    scored = run_trials(task, context.settings, fit.entry, fit.seed, score, encoder)
    values = [value for _, value in scored]
    best = _best_trial(values, maximise=maximise)
    if best is None:
        raise EvenhandError(
            f"{fit.name}: training diverged at every learning rate. Give a lower --lr-max."
        )
    model = load_model(_trial_folder(run, fit, best))
    record = EntryFitRecord(
        lr=scored[best][0], value=values[best], values=tuple(map(finite_or_none, values))
    )
    write_json(fit.folder(run) / "fit.json", record.model_dump())
    if fit.entry.name == ERM:
        save_model(erm_folder(run, fit), model)
    _finish(context, task, fit, model)
    _remove_trials(run, fit)  # last: once predictions exist, the fit is finished


def run_derived_fit(context: BenchmarkContext, fit: Fit) -> None:
    """Prune or adjust the network of `ERM` of the same fold and seed, and score."""
    task, run = context.task(fit), context.run
    model = load_model(erm_folder(run, fit))
    if fit.entry.stage == "pruning":
        erm = fit_record(run, replace(fit, entry=Entry(ERM)))
        record, model = _prune(task, model, fit, erm)
        write_json(fit.folder(run) / "fit.json", record.model_dump())
        _finish(context, task, fit, model)
        return
    parts = [*_scored_cohorts(task), *_external_cohorts(context, task)]
    features = {name: _features(model, part, task) for name, part in parts}
    before = with_external(run, replace(fit, entry=Entry(ERM)))
    after = adjust_predictions(fit.entry, before, context.settings, fit.seed, features).predictions
    external = after.of_split(SPLIT) if context.settings.external else None
    is_own = after.table["split"] != SPLIT
    own = replace(after, table=after.table[is_own].reset_index(drop=True))
    _write_predictions(context, fit, own, external)


def with_external(run: Run, fit: Fit) -> Predictions:
    """Return the predictions of a fit; those of external patients have the split `SPLIT`."""
    own = read_predictions(fit.predictions(run))
    if not fit.external(run).exists():
        return own
    external = read_predictions(fit.external(run)).table.assign(split=SPLIT)
    return replace(own, table=pd.concat([own.table, external], ignore_index=True))


def _finish(context: BenchmarkContext, task: Task, fit: Fit, model: Model) -> None:
    """Score with the network of a fit, probe it with ``--probe``, and write its predictions."""
    own = predict_fold(task, model)
    if context.settings.probe:
        probe_network(fit.folder(context.run), task, model, own)
    _write_predictions(context, fit, own, _predict_external(context, task, model))


def _write_predictions(
    context: BenchmarkContext, fit: Fit, own: Predictions, external: Predictions | None
) -> None:
    """Write the predictions of a fit; those of the fold come last, as they mark it finished."""
    if external is not None:
        table = external.table.assign(split="test")
        write_predictions(fit.external(context.run), replace(external, table=table))
    write_predictions(fit.predictions(context.run), own)


def _external_cohorts(context: BenchmarkContext, task: Task) -> list[tuple[str, Cohort]]:
    if context.settings.external is None:
        return []
    return [(SPLIT, external_cohort(context.settings, task.splits.train.classes))]


def _predict_external(context: BenchmarkContext, task: Task, model: Model) -> Predictions | None:
    """Return a model's predictions of external patients; None without ``--external``."""
    cohorts = _external_cohorts(context, task)
    return predict_cohorts(model, cohorts, make_accelerator(task.settings)) if cohorts else None


def _prune(task: Task, model: Model, fit: Fit, erm: EntryFitRecord) -> tuple[EntryFitRecord, Model]:
    """Prune the model of `ERM`; return the record of the fit, and the pruned model."""
    pruned = prune_model(task, model, FairPrune.of(fit.entry.pruning), fit.seed)
    assert isinstance(pruned.module, Model)
    accelerator = make_accelerator(task.settings)
    val = BatchSource(task.splits.val, accelerator.device)
    value = task.values(class_probabilities(pruned.module, val, accelerator))[0]
    sign = 1.0 if task.targets[0].maximise else -1.0
    curve = tuple(
        sign * float(value) if value == value else None for value in pruned.curve["value"]
    )
    record = EntryFitRecord(lr=erm.lr, value=value, values=curve, sparsity=pruned.sparsity)
    return record, pruned.module


def _pretrain_encoder(context: BenchmarkContext, task: Task, fit: Fit) -> Path:
    """Pre-train the encoder of a fit on the fold's training patients; return its weights."""
    folder = fit.folder(context.run) / "encoder"
    settings = task.settings
    if not (folder / "model.json").exists():
        contrast = ContrastSettings(
            ssl=fit.entry.objective or "",
            epochs=context.settings.pretrain_epochs,
            device=settings.device,
            precision=settings.precision,
            seed=fit.seed,
            track=settings.track,
        )
        name = folder.relative_to(context.run.root / "fits").as_posix()
        model, curve = train_tracked_encoder(
            task.model(fit.seed),
            task.splits.train,
            contrast,
            fit.seed,
            root=context.run.root,
            name=name,
        )
        save_model(folder, model, ssl=contrast.ssl, epoch=curve.best, loss=curve.best_loss)
    return folder / "model.safetensors"


def predict_fold(task: Task, model: Model) -> Predictions:
    """Return a model's predictions of the validation and test patients of its fold."""
    return predict_cohorts(model, _scored_cohorts(task), make_accelerator(task.settings))


def erm_folder(run: Run, fit: Fit) -> Path:
    """Return the folder of the network of `ERM` of the fold and seed of a fit."""
    return replace(fit, entry=Entry(ERM)).folder(run) / "model"


def _scored_cohorts(task: Task) -> list[tuple[str, Cohort]]:
    return [(name, part) for name, part in task.splits.items() if name in SCORED]


def fit_record(run: Run, fit: Fit) -> EntryFitRecord:
    """Return the record of a finished fit."""
    path = fit.folder(run) / "fit.json"
    return read_json_record(EntryFitRecord, path)


def _score_trial(task: Task, run: Run, fit: Fit, trial: Trial) -> float:
    """Return the validation target of a trial; train the trial unless it is finished."""
    values = _finished_trials(run, fit)
    if trial.number < len(values):
        return values[trial.number]
    trained = _train_trial(task, run, fit, trial)
    values.append(trained.values[0])
    is_best = _best_trial(values, maximise=task.targets[0].maximise) == trial.number
    if is_best:
        folder = _trial_folder(run, fit, trial.number)
        save_trained(task, folder, trained, lr=trial.lr, seed=fit.seed)
    record = TrialsRecord(values=tuple(map(finite_or_none, values)))
    write_json(_trials_file(run, fit), record.model_dump())
    if is_best:
        _remove_networks(run, fit, keep=trial.number)
    return values[-1]


def _train_trial(task: Task, run: Run, fit: Fit, trial: Trial) -> Trained:
    model, schedule = trial.start()
    name = _trial_folder(run, fit, trial.number).relative_to(run.root / "fits").as_posix()
    with open_trackers(
        task.settings, run.root, name, {"lr": trial.lr, "seed": fit.seed}
    ) as tracker:
        return train_model(
            task,
            model,
            schedule,
            task.fit_settings(trial.lr, fit.seed),
            mitigation=trial.mitigation,
            tracker=tracker,
        )


def _refuse_damaged_trials(run: Run, fit: Fit, trials: int, *, maximise: bool) -> None:
    """Refuse finished trials that are more than a fit has, or that lack the best network."""
    values = _finished_trials(run, fit)
    path, best = _trials_file(run, fit), _best_trial(values, maximise=maximise)
    advice = f"Remove {path}; the same command trains the trials of this fit again."
    if len(values) > trials:
        problem = f"it has {count_text(len(values), 'trial')}, and a fit has {trials}"
        raise DamagedError(path, problem, advice)
    if best is not None and not (_trial_folder(run, fit, best) / "model.json").is_file():
        problem = f"the network of its best trial, {_trial_folder(run, fit, best)}, is missing"
        raise DamagedError(path, problem, advice)


def _finished_trials(run: Run, fit: Fit) -> list[float]:
    """Return the validation targets of the finished trials, in order; NaN if training diverged."""
    path = _trials_file(run, fit)
    if not path.exists():
        return []
    record = read_json_record(TrialsRecord, path, strict=True)
    return [math.nan if value is None else value for value in record.values]


def _best_trial(values: Sequence[float], *, maximise: bool) -> int | None:
    """Return the index of the best value, of equal ones the first; None if all are NaN."""
    oriented = [value if maximise else -value for value in values]
    finite = [index for index, value in enumerate(oriented) if math.isfinite(value)]
    return max(finite, key=oriented.__getitem__, default=None)


def _features(model: Model, cohort: Cohort, task: Task) -> NDArray[np.float64]:
    """Return the inputs ``(n, D)`` of the last layer."""
    accelerator = make_accelerator(task.settings)
    model = model.to(accelerator.device).eval()
    source = BatchSource(cohort, accelerator.device)
    parts = []
    with torch.inference_mode(), accelerator.autocast():
        for start in range(0, len(source), BATCH):
            positions = np.arange(start, min(start + BATCH, len(source)))
            parts.append(model.features(to_unit_range(source.take(positions).inputs)).float().cpu())
    return torch.cat(parts).numpy().astype(np.float64)


def _trials_file(run: Run, fit: Fit) -> Path:
    return fit.folder(run) / "trials.json"


def _trial_folder(run: Run, fit: Fit, number: int) -> Path:
    return fit.folder(run) / f"trial{number}"


def _remove_networks(run: Run, fit: Fit, keep: int) -> None:
    """Remove the networks of a fit's trials, all but that of trial ``keep``."""
    for folder in fit.folder(run).glob("trial[0-9]*"):
        if folder != _trial_folder(run, fit, keep):
            shutil.rmtree(folder)


def _remove_trials(run: Run, fit: Fit) -> None:
    """Remove what only an unfinished fit needs."""
    for name in ("trial[0-9]*", "encoder"):
        for folder in fit.folder(run).glob(name):
            shutil.rmtree(folder)
    _trials_file(run, fit).unlink(missing_ok=True)
