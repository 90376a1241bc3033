"""`evenhand tune`: search, confirm and deliver FairTune and its baselines, and report on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evenhand.errors import count_text
from evenhand.experiments.forecast import longest_minutes, parallel_text, seconds_per_fit
from evenhand.experiments.lineage import begin_training_run
from evenhand.experiments.runs import Run
from evenhand.experiments.study_storage import open_run_storage, open_storage, storage_errors
from evenhand.experiments.task import Task
from evenhand.experiments.task_cache import FitContext, cached_task, fresh_task_cache
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import Notify, as_job, ignore_text
from evenhand.jobs.tune.contenders import (
    FAIRTUNE,
    AllowedMethods,
    Contender,
    allowed_methods,
    contenders,
)
from evenhand.jobs.tune.fitting import deliver_all
from evenhand.jobs.tune.outcome import delivery_of, method_warnings, search_notes, write_search
from evenhand.jobs.tune.searching import (
    SearchJob,
    SearchResult,
    fairtune_start,
    search_contender,
    study_identity,
)
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.metrics import find_rule
from evenhand.search.study import check_study, drop_study
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
        Whether another or a finished run in ``out`` may be replaced.
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
