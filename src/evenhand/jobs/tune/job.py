"""`evenhand tune`: search, confirm and deliver FairTune and its baselines, and report on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.trial import TrialState

from evenhand.errors import count_text
from evenhand.evaluation.rows import groups_in, metric_rows
from evenhand.experiments.forecast import longest_minutes, parallel_text, seconds_per_fit
from evenhand.experiments.lineage import begin_training_run
from evenhand.experiments.runs import Run
from evenhand.experiments.study_storage import open_run_storage, open_storage, storage_errors
from evenhand.experiments.task import Task
from evenhand.experiments.task_cache import FitContext, cached_task, fresh_task_cache
from evenhand.files import finite_or_none, write_json
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import Notify, as_job, ignore_text
from evenhand.jobs.tune.contenders import (
    FAIRTUNE,
    AllowedMethods,
    Contender,
    allowed_methods,
    contenders,
)
from evenhand.jobs.tune.fitting import Delivery, deliver_all, seed_predictions
from evenhand.jobs.tune.importance import factor_importance, method_importance, unit_importance
from evenhand.jobs.tune.searching import (
    SearchJob,
    SearchResult,
    fairtune_start,
    search_contender,
    study_identity,
)
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.metrics import Plan, Target, excluded_groups, find_rule
from evenhand.networks.model import read_model_record
from evenhand.reporting.search_record import (
    CandidateRecord,
    ChosenRecord,
    FitRecord,
    GroupValue,
    SearchRecord,
    StudyRecord,
    TargetRecord,
)
from evenhand.reporting.text.vocabulary import join_words
from evenhand.search.confirmation import Candidate
from evenhand.search.study import ADOPTED, check_study, drop_study, originals
from evenhand.spreadsheets import write_csv
from evenhand.tables.predictions import read_predictions
from evenhand.training.device import settle_precision
from evenhand.workers import open_engine


@as_job(TuneSettings, "data")
@fresh_task_cache()
def tune(
    settings: TuneSettings, out: Path, *, overwrite: bool = False, notify: Notify = ignore_text
) -> Run:
    """Search masks, methods and learning rates by validation fairness; confirm, and report.

    The learning rate of each baseline is searched first. FairTune may choose the choice of each
    baseline that its search space contains, and adopts the trials of that baseline as its own first
    trials if its space can express them. Its choice is therefore never worse on validation, with
    fresh seeds, than such a baseline. Every contender has the same number of own trials, epochs and
    confirming fits, and the same targets. The best trials are trained again with fresh seeds, and
    the fit with the median value is delivered. The test split is scored once for each of these
    fits, after all searches have ended.

    Parameters
    ----------
    settings
        The data, the model, the training and the search.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.
    notify
        Called before the searches with a text about the number of fits and their time.

    Raises
    ------
    EvenhandError
        If the data, the settings or the weights cannot be used. Nothing is written to ``out``.
    """
    settings = settle_precision(settings)
    task = cached_task(settings)
    allowed = allowed_methods(task, settings)
    competing = contenders(task, settings, allowed)
    rule = find_rule(settings.pick, task.targets)
    storage_name = settings.storage or str(out / "study.db")
    with open_engine(settings) as engine, storage_errors(storage_name):
        _check_storage(task, settings, out, competing)
        run = begin_training_run(
            "tune", task, out, [result.name for result in competing], overwrite=overwrite
        )
        notify(_forecast(task, settings, competing))
        storage = open_storage(settings.storage) if settings.storage else open_run_storage(run)
        if overwrite:  # a storage outside the run directory still holds the earlier studies
            for name in _study_names(competing):
                drop_study(storage, study_identity(task, settings, out, name)[0])
        context = FitContext.of(settings, task, run)
        job = SearchJob(task, context, rule, storage, engine)
        results = _search_all(job, allowed, competing)
        run.note(notes=(*run.record.notes, *search_notes(job, allowed, results)))
        deliver_all(context, [delivery_of(job, result) for result in results], engine)
    run.note(notes=(*run.record.notes, *method_warnings(run)))
    write_search(job, results)
    with run.phase("evaluation"):
        evaluate(run, chosen=FAIRTUNE)
    run.finish(chosen=FAIRTUNE)
    return run


def _search_all(
    job: SearchJob, allowed: AllowedMethods, competing: Sequence[Contender]
) -> list[SearchResult]:
    """Search the baselines, then FairTune, which starts from them; its result comes first."""
    fairtune, *others = competing
    baselines = [search_contender(job, contender) for contender in others]
    tuned = [baseline for result in baselines if (baseline := result.tuned_baseline()) is not None]
    contained = [result.chosen for result in baselines if result.contender.mask is not None]
    start = fairtune_start(job.task, job.context.settings, allowed, tuned)
    return [search_contender(job, fairtune, start, contained), *baselines]


def _check_storage(
    task: Task, settings: TuneSettings, out: Path, competing: Sequence[Contender]
) -> None:
    """Check that a storage named in the settings can hold every study."""
    if settings.storage:
        storage = open_storage(settings.storage)
        for name in _study_names(competing):
            check_study(storage, *study_identity(task, settings, out, name))


def _study_names(competing: Sequence[Contender]) -> list[str]:
    return [name for contender in competing for name in (contender.name, contender.confirmation)]


def _forecast(task: Task, settings: TuneSettings, competing: Sequence[Contender]) -> str:
    confirming = settings.confirm * settings.confirm_seeds
    fits = sum(
        int(min(settings.trials, contender.space.size)) + confirming for contender in competing
    )
    minutes = longest_minutes(fits * seconds_per_fit(task), settings.workers)
    confirmation = f" and {count_text(confirming, 'fit')} to confirm each" if confirming else ""
    several, shorter = "", "frozen layers make it less"
    if len(task.targets) > 1:
        several = "no trial is stopped early, as there are several targets; "
    elif settings.stopping == "halving":
        shorter = "pruned trials and frozen layers make it less"
    return (
        f"{count_text(fits, 'fit')} at most: {count_text(len(competing), 'search', 'searches')} of "
        f"{count_text(settings.trials, 'trial')}{confirmation}, "
        f"{count_text(settings.epochs, 'epoch')} each{parallel_text(settings.workers)}. At most "
        f"about {minutes} min; {several}{shorter}."
    )


TRAINED = ("complete", "pruned")
"""The states of trials that trained a model."""
AUC_ALONE = Plan(metrics=("auc",), across=(), bootstrap=None)


def delivery_of(job: SearchJob, result: SearchResult) -> Delivery:
    """Return the model that a search delivers: the median of the fits of its choice."""
    chosen = result.chosen
    return Delivery(
        model=result.contender.name,
        study=chosen.study,
        trial=chosen.trial,
        choice=chosen.choice,
        seeds=chosen.seeds,
        seed=chosen.median_seed(job.task.targets, job.rule),
    )


def search_notes(
    job: SearchJob, allowed: AllowedMethods, results: Sequence[SearchResult]
) -> list[str]:
    """Return sentences about the budgets of the searches, and about the delivered fits."""
    return [
        _budget_text(job, results),
        *(
            f"{name} is not part of the search: {reason}"
            for name, reason in allowed.refused.items()
        ),
        *(
            _adopted_choice_text(result)
            for result in results
            if result.chosen.study != result.contender.name
        ),
        *(_median_text(job, result) for result in results if len(result.chosen.seeds) > 1),
    ]


def method_warnings(run: Run) -> list[str]:
    """Return the warnings that the training of the delivered models gave."""
    records = {name: read_model_record(run.folder(name)) for name in run.models}
    return [f"{name}: {record.warning}" for name, record in records.items() if record.warning]


def _budget_text(job: SearchJob, results: Sequence[SearchResult]) -> str:
    settings = job.context.settings
    contained = [
        result.contender.name for result in results[1:] if result.contender.mask is not None
    ]
    contained_text = (
        f" {FAIRTUNE} may also choose what {join_words(contained)} chose, because "
        f"{_containing_text(job, contained)}."
        if contained
        else ""
    )
    confirmation = (
        f", and at most {count_text(settings.confirm * settings.confirm_seeds, 'fit')} to confirm "
        "its best trials"
        if settings.confirm
        else ""
    )
    return (
        f"Each of {join_words([result.contender.name for result in results])} had up to "
        f"{count_text(settings.trials, 'trial')} of {count_text(settings.epochs, 'epoch')} each, "
        f"at learning rates from {settings.lr_min:g} to {settings.lr_max:g}{confirmation}."
        f"{contained_text}"
    )


def _containing_text(job: SearchJob, contained: Sequence[str]) -> str:
    """Return a clause about why FairTune's search contains baselines."""
    if job.context.settings.search == "methods":
        return f"its search contains {'it' if len(contained) == 1 else 'them'}"
    return f"{'it is one mask' if len(contained) == 1 else 'they are masks'} on the same weights"


def _adopted_choice_text(result: SearchResult) -> str:
    name, other = result.contender.name, result.chosen.study
    return (
        f"Nothing in {name}'s own trials did better on validation than the baseline {other}: "
        f"{name} chose trial {result.chosen.trial} of {other}, and the two models are the same."
    )


def _median_text(job: SearchJob, result: SearchResult) -> str:
    chosen, targets = result.chosen, job.task.targets
    seed = chosen.median_seed(targets, job.rule)
    values = [
        f"{values[0]:.3f} (seed {other_seed})"
        for other_seed, values in zip(chosen.seeds, chosen.fit_values, strict=True)
        if other_seed != seed
    ]
    delivered = chosen.fit_values[chosen.seeds.index(seed), 0]
    two = len(chosen.seeds) == 2
    if two and (chosen.fit_values[0] == chosen.fit_values[1]).all():
        return (
            f"{result.contender.name}: the 2 fits that confirm the choice are equal on validation "
            f"({targets[0].name} {delivered:.3f}); that of seed {seed} is delivered."
        )
    return (
        f"{result.contender.name}: of the {len(chosen.seeds)} fits that confirm the choice, the "
        f"{'worse' if two else 'median'} on validation is delivered, seed {seed}: its "
        f"{targets[0].name} is {delivered:.3f}, the {'other has' if two else 'others have'} "
        f"{join_words(values)}."
    )


def write_search(job: SearchJob, results: Sequence[SearchResult]) -> None:
    """Write ``trials.csv`` and ``search.json``, after all fits have been scored."""
    root = job.context.run.root
    trials = pd.concat([table for result in results for table in result.tables])
    write_csv(root / "trials.csv", trials)
    targets = tuple(
        TargetRecord(name=target.name, direction=target.direction, bound=target.pessimistic)
        for target in job.task.targets
    )
    record = SearchRecord(
        schema_version=1,
        objectives=targets,
        pick=job.context.settings.pick or "ideal",
        studies=tuple(_study_record(result, job) for result in results),
    )
    write_json(
        root / "search.json", record.model_dump(mode="json", by_alias=True, exclude_unset=True)
    )


def _study_record(result: SearchResult, job: SearchJob) -> StudyRecord:
    table, chosen, targets = result.tables[0], result.chosen, job.task.targets
    is_own_trial = chosen.study == result.contender.name
    confirmed = result.candidates if job.context.settings.confirm else ()
    adopted = table[ADOPTED].notna()
    study = StudyRecord(
        name=result.contender.name,
        trial=chosen.trial if is_own_trial else None,
        chosen=ChosenRecord(
            study=chosen.study,
            trial=chosen.trial,
            seed=chosen.median_seed(targets, job.rule),
            lr=chosen.choice.lr,
            method=chosen.choice.method,
            method_settings=dict(chosen.choice.method_settings),
        ),
        trained=int((table["state"].isin(TRAINED) & ~adopted).sum()),
        adopted=int(adopted.sum()),
        front=tuple(table.loc[table["pareto"], "number"].tolist()),
        confirmed=tuple(
            CandidateRecord.model_validate(candidate.facts(targets)) for candidate in confirmed
        ),
        fits=tuple(_fit_record(job, result, seed) for seed in chosen.seeds) if confirmed else (),
        units=tuple(unit_importance(table, targets)),
    )
    return study if table["method"].nunique() < 2 else _add_importance(study, result, targets)


def _add_importance(
    study: StudyRecord, result: SearchResult, targets: Sequence[Target]
) -> StudyRecord:
    """Return the record with the importance of methods and factors."""
    done = [trial for trial in originals(result.study) if trial.state is TrialState.COMPLETE]
    choices = [result.contender.space.suggest(trial) for trial in done]
    values = np.array([trial.values for trial in done])
    return study.model_copy(
        update={
            "methods": tuple(method_importance(result.tables[0], targets)),
            "factors": tuple(factor_importance(choices, values, targets)),
        }
    )


def _fit_record(job: SearchJob, result: SearchResult, seed: int) -> FitRecord:
    """Return the values of one fit of a choice on validation and test patients."""
    chosen: Candidate = result.chosen
    val = chosen.fit_values[chosen.seeds.index(seed)]
    name, settings = result.contender.name, job.context.settings
    path = seed_predictions(job.context.run, name, seed)
    if not path.exists():  # there is one seed only
        path = job.context.run.predictions_file(name)
    predictions = read_predictions(path)
    rows = predictions.of_split("test")
    groups = groups_in(rows, settings.attribute)
    left_out = excluded_groups(settings.exclude_group, groups)
    targets = job.task.targets
    patients = rows.table["patient_id"].to_numpy()
    arguments = (rows.labels, rows.scores, groups, left_out)
    test = [target.value(*arguments, patients=patients) for target in targets]
    table = metric_rows(
        predictions, settings.attribute, model=name, seed=settings.seed, plan=AUC_ALONE
    )
    names = [target.name for target in targets]
    return FitRecord(
        seed=seed,
        val=dict(zip(names, map(finite_or_none, val), strict=True)),
        test=dict(zip(names, map(finite_or_none, test), strict=True)),
        auc=tuple(
            GroupValue(
                attribute=row["attribute"], group=row["group"], value=finite_or_none(row["value"])
            )
            for row in table.to_dict("records")
        ),
    )
