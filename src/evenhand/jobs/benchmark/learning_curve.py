"""Learning curves of erm: its numbers with fewer training patients."""

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
from evenhand.files import checked, read_object, write_json
from evenhand.jobs.benchmark.analysis import tested_in
from evenhand.jobs.benchmark.comparing import Measure, deals_of
from evenhand.jobs.benchmark.entries import ERM, Entry, file_name
from evenhand.jobs.benchmark.fitting import Fit, Work, fit_record, predicted
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.masks.strategies import find_strategy
from evenhand.metrics.learning_curve import ALL, HALF, LearningCurve, learning_curve
from evenhand.progress import bar
from evenhand.tables.predictions import write_predictions
from evenhand.workers import Engine, Job, complete


@dataclass(frozen=True)
class CurveFit:
    """A fit of erm with a share of the training patients, in a fold with a seed."""

    thinning: Thinning
    share: float
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call it."""
        share = f"{self.share:.0%} of {self.thinning.name}"
        return f"{ERM} on {share}, fold {self.fold + 1}, seed {self.seed}"

    @property
    def erm(self) -> Fit:
        """The fit on all training patients."""
        return Fit(Entry(ERM), self.fold, self.seed)

    def folder(self, run: Run) -> Path:
        """Return where it is kept."""
        name = file_name(f"curve-{self.thinning.name}-{self.share:.0%}")
        return run.root / "fits" / name / f"fold{self.fold + 1}-seed{self.seed}"

    def predictions(self, run: Run) -> Path:
        """Return its predictions of validation and test; they are there once it is finished."""
        return self.folder(run) / "predictions.parquet"


class CurveFitRecord(BaseModel, frozen=True):
    """How a fit of a learning curve was trained (``fit.json``)."""

    lr: float
    """The learning rate that `ERM` chose on all training patients."""
    epochs: int
    """As many as make about the steps of `ERM`."""
    patients: int
    """Training patients of those that became fewer."""
    whole: int
    """How many there are without thinning."""


def thinnings_of(
    settings: BenchmarkSettings, levels: Mapping[str, Sequence[str]]
) -> list[Thinning]:
    """Return whose training patients the learning curves thin out.

    Raises
    ------
    EvenhandError
        There is no such attribute or level.
    """
    return [Thinning.of_text(text, levels) for text in dict.fromkeys(settings.curve)]


def curve_fits(settings: BenchmarkSettings, thinnings: Sequence[Thinning]) -> list[CurveFit]:
    """Return every fit of the learning curves; those on all patients are the fits of erm."""
    return [
        fit
        for thinning in thinnings
        for share in SHARES
        for folds in _by_seed(settings, thinning, share)
        for fit in folds
    ]


def fit_curves(work: Work, fits: Sequence[CurveFit], engine: Engine) -> None:
    """Make the fits that are not there yet, by the engine's workers; those of erm are finished."""
    todo = [fit for fit in fits if not fit.predictions(work.run).exists()]
    jobs = [Job(fit.name, make_curve_fit, (work, fit)) for fit in todo]
    with work.run.phase("training"), bar("learning curve", len(fits)) as advance:
        advance(len(fits) - len(todo))
        for job, _ in complete(engine, jobs):
            advance(text=job.name)


def make_curve_fit(work: Work, fit: CurveFit) -> None:
    """Train erm on fewer patients, at its learning rate and in about as many steps; and score."""
    settings, whole = work.settings, work.task(fit.erm)
    rng = np.random.default_rng([settings.seed, fit.fold, fit.seed])
    few = fit.thinning.thinned(whole.splits.train, fit.share, settings.attribute, rng)
    task = task_from_splits(whole.settings, replace(whole.splits, train=few))
    lr, steps = fit_record(work.run, fit.erm).lr, steps_in_epoch(len(few), settings.batch_size)
    times = steps_in_epoch(len(whole.splits.train), settings.batch_size) / steps
    epochs = round(settings.epochs * times)
    fit_settings = task.fit_settings(lr, fit.seed).model_copy(
        update={"epochs": epochs, "patience": round(settings.patience * times)}
    )
    model, schedule = find_strategy("full")(task.model(fit.seed), fit.seed)
    trained = train_model(task, model, schedule, fit_settings)
    record = CurveFitRecord(
        lr=lr,
        epochs=epochs,
        patients=fit.thinning.patients(few),
        whole=fit.thinning.patients(whole.splits.train),
    )
    write_json(fit.folder(work.run) / "fit.json", record.model_dump())
    write_predictions(fit.predictions(work.run), predicted(task, trained.model))


def steps_in_epoch(samples: int, batch_size: int) -> int:
    """Return how many batches an epoch has, the last one short or not.

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
    return [_analysed(run, settings, thinning) for thinning in thinnings]


def _analysed(run: Run, settings: BenchmarkSettings, thinning: Thinning) -> LearningCurve:
    fits = {share: _by_seed(settings, thinning, share) for share in SHARES}
    files = {
        share: [[fit.predictions(run) for fit in folds] for folds in by_seed]
        for share, by_seed in fits.items()
    }
    files[ALL] = [[fit.erm.predictions(run) for fit in folds] for folds in fits[HALF]]
    tested = {
        share: [[tested_in(file) for file in folds] for folds in by_seed]
        for share, by_seed in files.items()
    }
    rng = np.random.default_rng([settings.seed, 2])
    measure, deals = Measure.of(tested[ALL][0], settings, rng), deals_of(settings, rng)
    numbers = {share: measure.of_entry(by_seed, deals) for share, by_seed in tested.items()}
    return learning_curve(
        thinning.name,
        thinning.auc,
        _patients(run, fits),
        {share: values for share, (values, _) in numbers.items()},
        {key: measure.rarer(key) for key in numbers[ALL][0]},
        rng,
        recombined={share: dealt for share, (_, dealt) in numbers.items()},
        folds=settings.folds,
    )


def _by_seed(settings: BenchmarkSettings, thinning: Thinning, share: float) -> list[list[CurveFit]]:
    return [
        [CurveFit(thinning, share, fold, settings.seed + number) for fold in range(settings.folds)]
        for number in range(settings.seeds)
    ]


def _patients(run: Run, fits: Mapping[float, list[list[CurveFit]]]) -> dict[float, float]:
    """Return how many training patients there are at each share, the mean over folds."""
    counts, whole = {}, 0.0
    for share, by_seed in fits.items():
        records = list(_records(run, by_seed))
        counts[share] = float(np.mean([record.patients for record in records]))
        whole = float(np.mean([record.whole for record in records]))
    return counts | {ALL: whole}


def _records(run: Run, by_seed: Sequence[Sequence[CurveFit]]) -> Iterator[CurveFitRecord]:
    for fit in (fit for folds in by_seed for fit in folds):
        path = fit.folder(run) / "fit.json"
        yield checked(CurveFitRecord, read_object(path), path)
