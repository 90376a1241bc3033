"""Learning curves of erm: fit and measure it with fewer training patients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from evenhand.cohort.thinning import SHARES, Thinning
from evenhand.experiments.runs import Run
from evenhand.experiments.task import task_from_splits, train_model
from evenhand.files import read_json_record, write_json
from evenhand.jobs.benchmark.analysis import read_tested
from evenhand.jobs.benchmark.comparing import Measure, seed_assignments
from evenhand.jobs.benchmark.entries import ERM, Entry, file_name
from evenhand.jobs.benchmark.fitting import BenchmarkContext, Fit, fit_record, predict_fold
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.masks.strategies import find_strategy
from evenhand.metrics.learning_curve import ALL, HALF, LearningCurve, learning_curve
from evenhand.progress import bar
from evenhand.tables.predictions import write_predictions
from evenhand.workers import Engine, Job, complete_jobs


@dataclass(frozen=True)
class CurveFit:
    """A fit of erm with a share of the training patients, in a fold with a seed."""

    thinning: Thinning
    share: float
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """The name in messages."""
        share = f"{self.share:.0%} of {self.thinning.name}"
        return f"{ERM} on {share}, fold {self.fold + 1}, seed {self.seed}"

    @property
    def erm(self) -> Fit:
        """The fit on all training patients."""
        return Fit(Entry(ERM), self.fold, self.seed)

    def folder(self, run: Run) -> Path:
        """Return the folder of the fit."""
        name = file_name(f"curve-{self.thinning.name}-{self.share:.0%}")
        return run.root / "fits" / name / f"fold{self.fold + 1}-seed{self.seed}"

    def predictions(self, run: Run) -> Path:
        """Return the file of validation and test predictions; it exists if the fit is finished."""
        return self.folder(run) / "predictions.parquet"


class CurveFitRecord(BaseModel, frozen=True):
    """The training of a fit of a learning curve (``fit.json``).

    Attributes
    ----------
    lr
        The learning rate that `ERM` chose with all training patients.
    epochs
        The number of epochs, which give about as many steps as `ERM` has.
    patients
        The number of training patients left, of the patients that the thinning reduces.
    whole
        The number of these patients before the thinning.
    """

    lr: float
    epochs: int
    patients: int
    whole: int


def curve_fits(settings: BenchmarkSettings, thinnings: Sequence[Thinning]) -> list[CurveFit]:
    """Return the fits of the learning curves; those on all patients are the fits of erm."""
    return [
        fit
        for thinning in thinnings
        for share in SHARES
        for folds in _by_seed(settings, thinning, share)
        for fit in folds
    ]


def fit_curves(context: BenchmarkContext, fits: Sequence[CurveFit], engine: Engine) -> None:
    """Run the fits that are not finished, in workers, after those of erm."""
    todo = [fit for fit in fits if not fit.predictions(context.run).exists()]
    jobs = [Job(fit.name, run_curve_fit, (context, fit)) for fit in todo]
    with context.run.phase("training"), bar("learning curve", len(fits)) as advance:
        advance(len(fits) - len(todo))
        for job, _ in complete_jobs(engine, jobs):
            advance(text=job.name)


def run_curve_fit(context: BenchmarkContext, fit: CurveFit) -> None:
    """Train erm on fewer patients, with about the steps of all patients, and predict the fold."""
    settings, erm_task = context.settings, context.task(fit.erm)
    rng = np.random.default_rng([settings.seed, fit.fold, fit.seed])
    train_all = erm_task.splits.train
    thinned = fit.thinning.thin(train_all, fit.share, settings.attribute, rng)
    task = task_from_splits(erm_task.settings, replace(erm_task.splits, train=thinned))
    lr, size = fit_record(context.run, fit.erm).lr, settings.batch_size
    factor = steps_in_epoch(len(train_all), size) / steps_in_epoch(len(thinned), size)
    epochs = round(settings.epochs * factor)
    fit_settings = task.fit_settings(lr, fit.seed).model_copy(
        update={"epochs": epochs, "patience": round(settings.patience * factor)}
    )
    model, schedule = find_strategy("full")(task.model(fit.seed), fit.seed)
    trained = train_model(task, model, schedule, fit_settings)
    record = CurveFitRecord(
        lr=lr,
        epochs=epochs,
        patients=fit.thinning.patients(thinned),
        whole=fit.thinning.patients(train_all),
    )
    write_json(fit.folder(context.run) / "fit.json", record.model_dump())
    write_predictions(fit.predictions(context.run), predict_fold(task, trained.model))


def steps_in_epoch(samples: int, batch_size: int) -> int:
    """Return the number of batches in an epoch; the last one may be smaller.

    Examples
    --------
    >>> steps_in_epoch(110, 64), steps_in_epoch(128, 64)
    (2, 2)
    """
    return math.ceil(samples / batch_size)


def analyse_curves(
    run: Run, settings: BenchmarkSettings, thinnings: Sequence[Thinning]
) -> list[LearningCurve]:
    """Measure the finished fits of the learning curves on the test patients of all folds."""
    return [_measure_curve(run, settings, thinning) for thinning in thinnings]


def _measure_curve(run: Run, settings: BenchmarkSettings, thinning: Thinning) -> LearningCurve:
    fits = {share: _by_seed(settings, thinning, share) for share in SHARES}
    files = {
        share: [[fit.predictions(run) for fit in folds] for folds in by_seed]
        for share, by_seed in fits.items()
    }
    # `fits` has the same seeds and folds for each share.
    files[ALL] = [[fit.erm.predictions(run) for fit in folds] for folds in fits[HALF]]
    tested = {
        share: [[read_tested(file) for file in folds] for folds in by_seed]
        for share, by_seed in files.items()
    }
    rng = np.random.default_rng([settings.seed, 2])  # the comparison of entries has other draws
    measure, assignments = (
        Measure.of(tested[ALL][0], settings, rng),
        seed_assignments(settings, rng),
    )
    numbers = {
        share: measure.entry_values(by_seed, assignments) for share, by_seed in tested.items()
    }
    return learning_curve(
        thinning.name,
        thinning.auc,
        _count_patients(run, fits),
        {share: values for share, (values, _) in numbers.items()},
        {key: measure.rarer_patients(key) for key in numbers[ALL][0]},
        rng,
        recombined={share: reassigned for share, (_, reassigned) in numbers.items()},
        folds=settings.folds,
    )


def _by_seed(settings: BenchmarkSettings, thinning: Thinning, share: float) -> list[list[CurveFit]]:
    return [
        [CurveFit(thinning, share, fold, settings.seed + number) for fold in range(settings.folds)]
        for number in range(settings.seeds)
    ]


def _count_patients(run: Run, fits: Mapping[float, list[list[CurveFit]]]) -> dict[float, float]:
    """Return the number of training patients at each share, as mean over folds."""
    counts, whole = {}, 0.0
    for share, by_seed in fits.items():
        records = list(_records(run, by_seed))
        counts[share] = float(np.mean([record.patients for record in records]))
        whole = float(np.mean([record.whole for record in records]))
    return counts | {ALL: whole}


def _records(run: Run, by_seed: Sequence[Sequence[CurveFit]]) -> Iterator[CurveFitRecord]:
    for fit in (fit for folds in by_seed for fit in folds):
        path = fit.folder(run) / "fit.json"
        yield read_json_record(CurveFitRecord, path)
