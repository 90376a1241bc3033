"""`evenhand benchmark`: methods and strategies on equal terms, and what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.readers import reader_of
from evenhand.errors import EvenhandError
from evenhand.experiments.lineage import paths_read, refuse_leak
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, begin_run
from evenhand.experiments.task import Task, seconds_per_fit
from evenhand.files import write_text
from evenhand.jobs.benchmark.additions import Addition, find_addition, refuse_other_entries
from evenhand.jobs.benchmark.analysis import analyse, analyse_external
from evenhand.jobs.benchmark.entries import ERM, SSL, Entry, entries_of
from evenhand.jobs.benchmark.external import external_cohort
from evenhand.jobs.benchmark.fitting import Fit, Work, fit_all, fits_of
from evenhand.jobs.benchmark.folds import Folds, entry_task, fresh_folds, prepared_folds
from evenhand.jobs.benchmark.generalization_page import transfers_of
from evenhand.jobs.benchmark.learning_curve import (
    CurveFit,
    analyse_curves,
    curve_fits,
    fit_curves,
    thinnings_of,
)
from evenhand.jobs.benchmark.metric_rows import write_numbers
from evenhand.jobs.benchmark.other_data_sets import (
    combine_data_sets,
    data_sets_verdict,
    read_others,
)
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.jobs.benchmark.page import page_of
from evenhand.jobs.benchmark.plan import (
    add_entries,
    lock_plan,
    plan_of,
    read_plan,
    write_result,
)
from evenhand.jobs.benchmark.probes import Folders, probe_rows
from evenhand.jobs.benchmark.pruning import FairPrune, check_pruning
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.trials import search_space
from evenhand.jobs.benchmark.verdicts import statements_of
from evenhand.jobs.keywords import with_keywords
from evenhand.masks.strategies import find_strategy
from evenhand.methods.mitigate import mitigate
from evenhand.reporting.sections.learning_curve import curve_verdicts
from evenhand.reporting.text.numbers import listed
from evenhand.reporting.verdicts import write_verdicts
from evenhand.runs import run_scope
from evenhand.spreadsheets import write_csv
from evenhand.tables.attributes import group_of
from evenhand.training.inputs import check_fits
from evenhand.training.precision import settle_precision
from evenhand.wording import counted
from evenhand.workers import open_engine


@with_keywords(BenchmarkSettings, "data")
@run_scope()
@fresh_folds()
def benchmark(
    settings: BenchmarkSettings,
    out: Path,
    *,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Run:
    """Compare methods and strategies with erm on equal terms, and say which is shown to be better.

    Every entry has the same patients, starting weights, learning rates, epochs and seeds. Each
    patient is tested in one outer fold. The plan is written and hashed before the first fit.

    Parameters
    ----------
    settings
        Data, network, entries and recipe.
    out
        The run directory; what an unfinished run of the same settings has done is not done again.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.
    notify
        Called, before the long work, with how many fits there will be and how long they take.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    settings = settle_precision(settings)
    if not settings.attribute:
        raise EvenhandError("fairness is between groups: give an --attribute.")
    addition = None
    if settings.add:
        addition = find_addition(settings, out)
        settings = addition.after
    elif not overwrite:
        refuse_other_entries(settings, out)
    folds = prepared_folds(settings)
    entries, refused = _allowed(settings, folds, entries_of(settings))
    read_others(settings, [entry.name for entry in entries if not entry.moves_decisions])
    thinnings_of(settings, folds.cohort.levels)
    _check_external(settings, folds)
    with open_engine(settings) as engine:
        run = _opened(settings, folds, out, addition, overwrite=overwrite)
        run.note(
            models=[entry.name for entry in entries], notes=(*folds.cohort.source.notes, *refused)
        )
        if addition is None:
            lock_plan(run, plan_of(settings, entries, folds.fingerprint))
        else:
            _add(run, addition, entries, folds)
        for text in refused:
            notify(text)
        fits, work = list(fits_of(entries, settings)), Work.of(settings, folds, run)
        points = curve_fits(settings, thinnings_of(settings, folds.cohort.levels))
        notify(_forecast(run, settings, fits, points))
        fit_all(work, fits, engine)
        fit_curves(work, points, engine)
    with run.phase("evaluation"):
        write_benchmark(run, settings)
    run.finish()
    return run


def write_benchmark(run: Run, settings: BenchmarkSettings) -> None:
    """Write numbers, verdicts and page of a run whose fits are finished."""
    record = read_plan(run)
    added = {entry.name for entry in record.added}
    entries = record.all_entries
    result = analyse(run, entries, settings, frozenset(added))
    outside = analyse_external(run, entries, settings, result) if settings.external else None
    names = [entry.name for entry in record.plan.entries if not entry.moves_decisions]
    others = read_others(settings, names)
    data_sets = combine_data_sets(run, result, others, names) if others else None
    levels = {} if run.record.source is None else run.record.source.levels
    curves = analyse_curves(run, settings, thinnings_of(settings, levels))
    probes = probe_rows(_folders(run, entries, settings), settings.attribute)
    write_result(run, result, outside, data_sets, curves, probes)
    write_numbers(run, result)
    statements = statements_of(result)
    transfers = [] if outside is None else transfers_of(result, outside)
    more = [transfer.verdict for transfer in transfers]
    more += [verdict for curve in curves for verdict in curve_verdicts(curve, result.worst)]
    more += [] if data_sets is None else [data_sets_verdict(data_sets)]
    write_verdicts(
        run.root / "verdicts.json", [*(statement.verdict for statement in statements), *more]
    )
    outcome = Outcome(run, read_plan(run), result, statements, outside, data_sets, curves)
    write_text(run.root / "report.html", page_of(outcome))


def _folders(run: Run, entries: Sequence[Entry], settings: BenchmarkSettings) -> dict[str, Folders]:
    """Return where the fits of each entry with a network of its own are; none without a probe."""
    if not settings.probe:
        return {}
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return {
        entry.name: [
            [Fit(entry, fold, seed).folder(run) for seed in seeds] for fold in range(settings.folds)
        ]
        for entry in entries
        if entry.stage != "afterwards"
    }


def _opened(
    settings: BenchmarkSettings,
    folds: Folds,
    out: Path,
    addition: Addition | None,
    *,
    overwrite: bool,
) -> Run:
    """Open the run: a new one, an unfinished one, or one to which entries are added."""
    if addition is None:
        return begin(settings, folds, out, overwrite=overwrite)
    run = begin(addition.before, folds, out, goes_on=True)
    kept = BenchmarkSettings.model_validate(addition.after.kept())
    run.note(settings=kept, status="running")
    return run


def _add(run: Run, addition: Addition, entries: Sequence[Entry], folds: Folds) -> None:
    """See that the plan is still the one that was written, and add what is new beside it."""
    planned = read_plan(run).plan.entries
    lock_plan(run, plan_of(addition.before, planned, folds.fingerprint))
    add_entries(run, entries)


def _allowed(
    settings: BenchmarkSettings, folds: Folds, entries: Sequence[Entry]
) -> tuple[tuple[Entry, ...], list[str]]:
    """Return the entries that the data allow in every fold, and why others are left out.

    Raises
    ------
    EvenhandError
        An entry is not allowed and ``--skip-refused`` is not given; or only erm is left.
    """
    allowed, refused = [], []
    for entry in entries:
        try:
            _check(settings, folds, entry)
        except EvenhandError as error:
            if not settings.skip_refused or entry == entries[0]:
                raise EvenhandError(f"entry {entry.name}: {error}") from error
            refused.append(f"Entry {entry.name} is left out, as the data do not allow it: {error}")
        else:
            allowed.append(entry)
    if len(allowed) == 1:
        raise EvenhandError("no entry is left to compare with erm:\n" + "\n".join(refused))
    return tuple(allowed), refused


def _check_external(settings: BenchmarkSettings, folds: Folds) -> None:
    """See that the patients of elsewhere can be scored by the networks of the benchmark."""
    if settings.external is None:
        return
    try:
        cohort = external_cohort(settings, folds.cohort.classes)
        check_fits(cohort, entry_task(settings, Entry(ERM), 0).model())
    except EvenhandError as error:
        raise EvenhandError(f"--external {settings.external}: {error}") from error


def _check(settings: BenchmarkSettings, folds: Folds, entry: Entry) -> None:
    """See in every fold that an entry can be trained, pruned, or fitted to validation patients."""
    for fold in range(settings.folds):
        splits = folds.splits(fold)
        if entry.stage == "afterwards":
            _check_adjustment(settings, splits.val, entry)
            continue
        refuse_leak(splits, entry.settings(settings).weights)
        task = entry_task(settings, entry, fold)
        if entry.stage == "pruning":
            check_pruning(task, FairPrune.of(entry.pruning))
    if entry.stage == "training":
        _check_network(settings, task, entry)


def _check_network(settings: BenchmarkSettings, task: Task, entry: Entry) -> None:
    """See that the network has what an entry changes, and that its start fits the network."""
    if entry.searches_masks:
        search_space(task, settings, entry, settings.seed)
    else:
        find_strategy(entry.strategy)(task.model(), settings.seed)


def _check_adjustment(settings: BenchmarkSettings, val: Cohort, entry: Entry) -> None:
    """See that a method takes the validation patients and all that a benchmark can give it."""
    rng = np.random.default_rng(0)  # scores by chance: what is refused does not depend on them
    inputs = rng.normal(size=(len(val), 4)) if entry.needs_features else rng.random(len(val))
    present = set(val.labels.tolist())
    if absent := [name for code, name in enumerate(val.classes) if code not in present]:
        raise EvenhandError(
            f"{entry.method} is fitted to the validation patients of each fold, and those of one "
            f"fold lack the class {', '.join(absent)}. Give --split a larger share for validation, "
            "or fewer --folds."
        )
    groups = pd.DataFrame(
        {
            name: group_of(val.table, name, val.levels).astype(str)
            for name in entry.attributes(settings)
        }
    )
    patients = val.table["patient_id"].to_numpy()
    adjusted = mitigate(inputs, val.labels, groups, entry.method, patients=patients)
    adjusted.scores(inputs, groups)


def begin(
    settings: BenchmarkSettings,
    folds: Folds,
    out: Path,
    *,
    overwrite: bool = False,
    goes_on: bool = False,
) -> Run:
    """Open the run directory, and write down the data and the folds."""
    cohort = folds.cohort
    run = begin_run(
        out,
        "benchmark",
        settings,
        fingerprint=folds.fingerprint,
        reads=_reads(settings, folds),
        overwrite=overwrite,
        goes_on=goes_on,
    )
    run.note(source=SourceRecord.of(cohort.source, levels=cohort.levels))
    table = cohort.table[["sample_id", "patient_id"]].assign(fold=pd.Series(folds.place + 1))
    write_csv(run.root / "folds.csv", table)
    return run


def _reads(settings: BenchmarkSettings, folds: Folds) -> Iterable[Path]:
    starts = (start for start in (settings.weights, *settings.start) if not start.startswith(SSL))
    splits = folds.splits(0)
    paths = [
        path for start in starts for path in paths_read(splits, start, settings.exclude_patients)
    ]
    outside = [Path(reader_of(settings.external)[1])] if settings.external else []
    return [*paths, *settings.also, *outside]


def _forecast(
    run: Run, settings: BenchmarkSettings, fits: Sequence[Fit], points: Sequence[CurveFit]
) -> str:
    """Say how many fits are left, and at most how long they take."""
    fits = [fit for fit in fits if not fit.predictions(run).exists()]
    points = [point for point in points if not point.predictions(run).exists()]
    if not (fits or points):
        return "Every fit is finished."
    fold = fits[0].fold if fits else points[0].fold
    seconds = seconds_per_fit(entry_task(settings, Entry(ERM), fold))
    trained = [fit for fit in fits if not fit.entry.is_derived]
    count = len(trained) * settings.trials + len(points)
    minutes = max(1, round(count * seconds / settings.workers / 60))
    beside = f", {settings.workers} at a time" if settings.workers > 1 else ""
    entries = len({fit.entry for fit in trained})
    longer = ", and jtt a fifth more" if any(fit.entry.method == "jtt" for fit in trained) else ""
    curves = f", and {counted(len(points), 'fit')} of learning curves" if points else ""
    return (
        f"{counted(count, 'fit')} of at most {counted(settings.epochs, 'epoch')}{beside}, of "
        f"{counted(entries, 'trained entry', 'trained entries')} in "
        f"{counted(settings.folds, 'fold')} with {counted(settings.seeds, 'seed')} and "
        f"{counted(settings.trials, 'trial')} each{curves}. At most about {minutes} min; early "
        f"stops and frozen layers make it less{longer}."
        f"{_beside(fits)}"
    )


def _beside(fits: Sequence[Fit]) -> str:
    """Say what the forecast leaves out."""
    kinds = {
        "pre-training in each fold": any(fit.entry.objective for fit in fits),
        "pruning": any(fit.entry.stage == "pruning" for fit in fits),
    }
    more = [kind for kind, is_there in kinds.items() if is_there]
    return f" Not counted: {listed(more)}." if more else ""
