"""`evenhand benchmark`: compare methods, strategies and starting weights on equal terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.readers import reader_of
from evenhand.cohort.thinning import Thinning
from evenhand.errors import EvenhandError, count_text
from evenhand.experiments.forecast import longest_minutes, parallel_text, seconds_per_fit
from evenhand.experiments.lineage import paths_read, refuse_leak
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, begin_run
from evenhand.experiments.task import Task, require_attribute
from evenhand.files import write_text
from evenhand.jobs.benchmark.analysis import analyse, analyse_external, write_numbers
from evenhand.jobs.benchmark.entries import ERM, SSL, Entry, list_entries
from evenhand.jobs.benchmark.external import external_cohort
from evenhand.jobs.benchmark.fitting import BenchmarkContext, Fit, fit_entries, list_fits
from evenhand.jobs.benchmark.folds import Folds, entry_task, fresh_folds, prepared_folds
from evenhand.jobs.benchmark.learning_curve import CurveFit, analyse_curves, curve_fits, fit_curves
from evenhand.jobs.benchmark.other_data_sets import (
    combine_data_sets,
    data_sets_verdict,
    read_others,
    transfers_of,
)
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.jobs.benchmark.page import benchmark_page
from evenhand.jobs.benchmark.plan import (
    Addition,
    add_entries,
    find_addition,
    lock_plan,
    make_plan,
    read_plan,
    refuse_other_entries,
    write_result,
)
from evenhand.jobs.benchmark.probes import Folders, probe_rows
from evenhand.jobs.benchmark.pruning import FairPrune, check_pruning
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.trials import search_space
from evenhand.jobs.benchmark.verdicts import make_statements
from evenhand.jobs.keywords import Notify, as_job, ignore_text
from evenhand.masks.strategies import find_strategy
from evenhand.methods.mitigate import mitigate
from evenhand.reporting.sections.learning_curve import curve_verdicts
from evenhand.reporting.text.vocabulary import join_words
from evenhand.reporting.verdicts import write_verdicts
from evenhand.spreadsheets import write_csv
from evenhand.tables.attributes import group_of
from evenhand.training.device import settle_precision
from evenhand.training.inputs import check_fits
from evenhand.workers import open_engine


@as_job(BenchmarkSettings, "data")
@fresh_folds()
def benchmark(
    settings: BenchmarkSettings, out: Path, *, overwrite: bool = False, notify: Notify = ignore_text
) -> Run:
    """Compare methods, strategies and starting weights with erm on equal terms.

    Every entry has the same patients, starting weights, learning rates, epochs and seeds. Each
    patient is tested in one outer fold. The plan is written and hashed before the first fit.

    Parameters
    ----------
    settings
        The data, the network, the entries and the recipe.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.
    notify
        Called before the training with a text about the number of fits and their time.

    Raises
    ------
    EvenhandError
        If the data, the settings or the entries cannot be used. Nothing is written to ``out``.
    """
    settings = settle_precision(settings)
    require_attribute(settings)
    addition = None
    if settings.add:
        addition = find_addition(settings, out)
        settings = addition.after
    elif not overwrite:
        refuse_other_entries(settings, out)
    folds = prepared_folds(settings)
    entries, refused = _allowed_entries(settings, folds, list_entries(settings))
    read_others(settings, [entry.name for entry in entries if not entry.moves_decisions])
    thinnings = Thinning.of_texts(settings.curve, folds.cohort.levels)
    _check_external(settings, folds)
    with open_engine(settings) as engine:
        run = _open_run(settings, folds, out, addition, overwrite=overwrite)
        run.note(
            models=[entry.name for entry in entries], notes=(*folds.cohort.source.notes, *refused)
        )
        if addition is None:
            lock_plan(run, make_plan(settings, entries, folds.fingerprint))
        else:
            _add_entries(run, addition, entries, folds)
        for text in refused:
            notify(text)
        fits, context = (
            list(list_fits(entries, settings)),
            BenchmarkContext.of(settings, folds, run),
        )
        points = curve_fits(settings, thinnings)
        notify(_forecast(run, settings, fits, points))
        fit_entries(context, fits, engine)
        fit_curves(context, points, engine)
    with run.phase("evaluation"):
        write_benchmark(run, settings)
    run.finish()
    return run


def write_benchmark(run: Run, settings: BenchmarkSettings) -> None:
    """Write the numbers, the verdicts and the page of a run whose fits are finished."""
    record = read_plan(run)
    added = frozenset(entry.name for entry in record.added)
    entries = record.all_entries
    result = analyse(run, entries, settings, added)
    external = analyse_external(run, entries, settings, result) if settings.external else None
    names = [entry.name for entry in record.plan.entries if not entry.moves_decisions]
    others = read_others(settings, names)
    data_sets = combine_data_sets(run, result, others, names) if others else None
    levels = {} if run.record.source is None else run.record.source.levels
    curves = analyse_curves(run, settings, Thinning.of_texts(settings.curve, levels))
    probes = probe_rows(_probed_folders(run, entries, settings), settings.attribute)
    statements = make_statements(result)
    write_result(run, result, statements, external, data_sets, curves, probes)
    write_numbers(run, result)
    verdicts = [statement.verdict for statement in statements]
    if external is not None:
        verdicts += [transfer.verdict for transfer in transfers_of(result, external)]
    verdicts += [verdict for curve in curves for verdict in curve_verdicts(curve, result.worst)]
    if data_sets is not None:
        verdicts.append(data_sets_verdict(data_sets))
    write_verdicts(run.root / "verdicts.json", verdicts)
    outcome = Outcome(run, read_plan(run), result, statements, external, data_sets, curves)
    write_text(run.root / "report.html", benchmark_page(outcome))


def _probed_folders(
    run: Run, entries: Sequence[Entry], settings: BenchmarkSettings
) -> dict[str, Folders]:
    """Return the folders of the fits of each entry with a network; none without ``--probe``."""
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


def _open_run(
    settings: BenchmarkSettings,
    folds: Folds,
    out: Path,
    addition: Addition | None,
    *,
    overwrite: bool,
) -> Run:
    """Open a new run, an unfinished run, or a run to which entries are added."""
    if addition is None:
        return begin_benchmark(settings, folds, out, overwrite=overwrite)
    run = begin_benchmark(addition.before, folds, out, goes_on=True)
    recorded = BenchmarkSettings.model_validate(addition.after.recorded())
    run.note(settings=recorded, status="running")
    return run


def _add_entries(run: Run, addition: Addition, entries: Sequence[Entry], folds: Folds) -> None:
    """Check that the plan is unchanged, and record the new entries."""
    planned = read_plan(run).plan.entries
    lock_plan(run, make_plan(addition.before, planned, folds.fingerprint))
    add_entries(run, entries)


def _allowed_entries(
    settings: BenchmarkSettings, folds: Folds, entries: Sequence[Entry]
) -> tuple[tuple[Entry, ...], list[str]]:
    """Return the entries that the data allow in every fold, and a text about each refused one.

    Raises
    ------
    EvenhandError
        If an entry is not allowed and ``--skip-refused`` is not given, or only erm is left.
    """
    allowed, refused = [], []
    for entry in entries:
        try:
            _check_entry(settings, folds, entry)
        except EvenhandError as error:
            if not settings.skip_refused or entry == entries[0]:
                raise EvenhandError(f"entry {entry.name}: {error}") from error
            refused.append(f"Entry {entry.name} is left out, as the data do not allow it: {error}")
        else:
            allowed.append(entry)
    if len(allowed) == 1:
        raise EvenhandError(
            "no entry is left to compare with erm; name others.\n" + "\n".join(refused)
        )
    return tuple(allowed), refused


def _check_external(settings: BenchmarkSettings, folds: Folds) -> None:
    """Check that the networks of the benchmark can score the external patients."""
    if settings.external is None:
        return
    try:
        cohort = external_cohort(settings, folds.cohort.classes)
        check_fits(cohort, entry_task(settings, Entry(ERM), 0).model())
    except EvenhandError as error:
        raise EvenhandError(f"--external {settings.external}: {error}") from error


def _check_entry(settings: BenchmarkSettings, folds: Folds, entry: Entry) -> None:
    """Check that an entry can be trained, pruned or fitted in every fold."""
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
    """Check that the network has the units of an entry, and that the starting weights fit it."""
    if entry.searches_masks:
        search_space(task, settings, entry, settings.seed)
    else:
        find_strategy(entry.strategy)(task.model(), settings.seed)


def _check_adjustment(settings: BenchmarkSettings, val: Cohort, entry: Entry) -> None:
    """Check that an adjustment can be fitted to the validation patients, with random scores."""
    rng = np.random.default_rng(0)
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


def begin_benchmark(
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
    fold = pd.Series(folds.fold_of_sample + 1)
    table = cohort.table[["sample_id", "patient_id"]].assign(fold=fold)
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
    """Return a text about the number of remaining fits, and the longest time they may take."""
    fits = [fit for fit in fits if not fit.predictions(run).exists()]
    points = [point for point in points if not point.predictions(run).exists()]
    if not (fits or points):
        return "Every fit is finished."
    fold = fits[0].fold if fits else points[0].fold
    seconds = seconds_per_fit(entry_task(settings, Entry(ERM), fold))
    trained = [fit for fit in fits if not fit.entry.is_derived]
    count = len(trained) * settings.trials + len(points)
    minutes = longest_minutes(count * seconds, settings.workers)
    parallel = parallel_text(settings.workers)
    entries = len({fit.entry for fit in trained})
    longer = ", and jtt a fifth more" if any(fit.entry.method == "jtt" for fit in trained) else ""
    curves = f", and {count_text(len(points), 'fit')} of learning curves" if points else ""
    return (
        f"{count_text(count, 'fit')} of at most {count_text(settings.epochs, 'epoch')}{parallel}, "
        f"of {count_text(entries, 'trained entry', 'trained entries')} in "
        f"{count_text(settings.folds, 'fold')} with {count_text(settings.seeds, 'seed')} and "
        f"{count_text(settings.trials, 'trial')} each{curves}. At most about {minutes} min; early "
        f"stops and frozen layers make it less{longer}."
        f"{_not_counted_text(fits)}"
    )


def _not_counted_text(fits: Sequence[Fit]) -> str:
    """Return a sentence about the work that the forecast does not count."""
    kinds = {
        "pre-training in each fold": any(fit.entry.objective for fit in fits),
        "pruning": any(fit.entry.stage == "pruning" for fit in fits),
    }
    present = [kind for kind, is_present in kinds.items() if is_present]
    return f" Not counted: {join_words(present)}." if present else ""
