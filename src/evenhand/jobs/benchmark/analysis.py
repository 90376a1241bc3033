"""Measure the finished fits of a benchmark, also as rows of ``metrics.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from evenhand.evaluation.rows import choose_cut, groups_in, scored_rows
from evenhand.experiments.runs import Run
from evenhand.jobs.benchmark.adjusting import TestedModel, adjust_predictions
from evenhand.jobs.benchmark.comparing import (
    CHOSEN,
    Result,
    Roles,
    Selection,
    compare_entries,
    join_folds,
    primary_keys,
)
from evenhand.jobs.benchmark.entries import ERM, Entry
from evenhand.jobs.benchmark.external import SPLIT, ExternalResult, compare_external
from evenhand.jobs.benchmark.fitting import Fit, fit_record, with_external
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.estimate import points_by_level
from evenhand.metrics.groups import excluded_groups
from evenhand.metrics.parity import percentile_interval
from evenhand.metrics.recipes import Difference, RecipeValues, is_better, stability, worst_served
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.rows import Key, MetricRow
from evenhand.metrics.target_names import find_target
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions


def analyse(
    run: Run,
    entries: Sequence[Entry],
    settings: BenchmarkSettings,
    added: frozenset[str] = frozenset(),
) -> Result:
    """Compare the entries of a run whose fits are finished, and write their predictions.

    Parameters
    ----------
    run
        The run with the fits.
    entries
        All entries.
    settings
        The settings of the run.
    added
        The names of entries that are not in the plan.
    """
    seeds = [settings.seed + number for number in range(settings.seeds)]
    tested = {
        entry.name: [list(_tested_folds(run, entry, seed, settings)) for seed in seeds]
        for entry in entries
    }
    for name, by_seed in tested.items():
        _write_predictions(run, name, seeds, [join_folds(folds) for folds in by_seed])
    candidates = [entry for entry in entries if entry.is_candidate and entry.name not in added]
    picks: Counter[str] = Counter()
    if len(candidates) > 1:
        chosen = [_chosen_fits(run, candidates, seed, settings) for seed in seeds]
        picks.update(fit.entry.name for fits in chosen for fit in fits)
        tested[CHOSEN] = [[read_tested(fit.predictions(run)) for fit in fits] for fits in chosen]
    decision_entries = frozenset(entry.name for entry in entries if entry.moves_decisions)
    result = compare_entries(tested, settings, Roles(decision_entries, added))
    primary = primary_keys(settings)
    return replace(
        result,
        primary=primary,
        worst=_worst_levels(run, seeds, settings),
        selection=_selection(result.values, candidates, primary[0], picks) if picks else None,
    )


def _tested_folds(
    run: Run, entry: Entry, seed: int, settings: BenchmarkSettings
) -> Iterator[TestedModel]:
    """Yield the tested model of an entry in each fold."""
    for fold in range(settings.folds):
        if entry.moves_decisions:
            before = _read(run, Fit(Entry(ERM), fold, seed))
            yield adjust_predictions(entry, before, settings, seed).tested()
        else:
            yield read_tested(Fit(entry, fold, seed).predictions(run))


def read_tested(file: Path) -> TestedModel:
    """Read the predictions of a fit, and return its test rows with their decisions."""
    predictions = _read_cached(str(file), file.stat().st_mtime_ns)
    test = predictions.of_split("test")
    return TestedModel(test, scored_rows(test, choose_cut(predictions)))


def _chosen_fits(
    run: Run, candidates: Sequence[Entry], seed: int, settings: BenchmarkSettings
) -> list[Fit]:
    """Return the fit of each fold that is the best on validation."""
    sign = 1.0 if find_target(settings.target[0]).maximise else -1.0
    by_fold = ([Fit(entry, fold, seed) for entry in candidates] for fold in range(settings.folds))
    return [max(fits, key=lambda fit: sign * fit_record(run, fit).value) for fits in by_fold]


def analyse_external(
    run: Run, entries: Sequence[Entry], settings: BenchmarkSettings, result: Result
) -> ExternalResult:
    """Measure the finished fits of a run on external patients."""
    seeds = [settings.seed + number for number in range(settings.seeds)]
    tested = {
        entry.name: [
            [
                _external_model(run, Fit(entry, fold, seed), settings)
                for fold in range(settings.folds)
            ]
            for seed in seeds
        ]
        for entry in entries
    }
    candidates = [
        entry for entry in entries if entry.is_candidate and entry.name not in result.roles.added
    ]
    if len(candidates) > 1:
        tested[CHOSEN] = [
            [
                _external_model(run, fit, settings)
                for fit in _chosen_fits(run, candidates, seed, settings)
            ]
            for seed in seeds
        ]
    return compare_external(tested, result, settings)


def _external_model(run: Run, fit: Fit, settings: BenchmarkSettings) -> TestedModel:
    """Return the rows of external patients of a fit, with the threshold of its validation rows."""
    if fit.entry.moves_decisions:
        before = with_external(run, replace(fit, entry=Entry(ERM)))
        return adjust_predictions(fit.entry, before, settings, fit.seed).tested(SPLIT)
    predictions = with_external(run, fit)
    external = predictions.of_split(SPLIT)
    return TestedModel(external, scored_rows(external, choose_cut(predictions)))


def _worst_levels(run: Run, seeds: Sequence[int], settings: BenchmarkSettings) -> dict[str, str]:
    """Return each attribute's level with the lowest AUC of erm on validation, mean over fits."""
    by_level: dict[tuple[str, str], list[float]] = {}
    auc = find_metric("auc")
    for seed in seeds:
        for fold in range(settings.folds):
            val = _read(run, Fit(Entry(ERM), fold, seed)).of_split("val")
            rows, groups = scored_rows(val, choose_cut(val)), groups_in(val, settings.attribute)
            excluded = excluded_groups(settings.exclude_group, groups)
            for name, attribute_groups in groups.items():
                levels = attribute_groups.compared(excluded.get(name, ()))
                for level, value in points_by_level(rows, attribute_groups, levels, auc).items():
                    by_level.setdefault((name, level), []).append(value)
    return worst_served(by_level)


def _selection(
    values: Mapping[str, RecipeValues], candidates: Sequence[Entry], key: Key, picks: Counter[str]
) -> Selection:
    competing = {entry.name: values[entry.name] for entry in candidates}
    means = {name: float(numbers[key][:, 0].mean()) for name, numbers in competing.items()}
    sign = 1.0 if is_better(key, 1.0) else -1.0
    best = max(means, key=lambda name: sign * means[name])
    chosen = float(values[CHOSEN][key][:, 0].mean())
    by_seed = sign * np.stack(
        [numbers[key][:, 0] for numbers in competing.values()]
    )  # (entries, S)
    winners = np.where(np.isnan(by_seed), -np.inf, by_seed).argmax(axis=0)
    return Selection(
        picks=picks,
        value=chosen,
        best_value=means[best],
        best=best,
        regret=max(sign * (means[best] - chosen), 0.0),
        other_winner=stability(competing, key),
        other_by_seed=float(np.mean([list(competing)[index] != best for index in winners])),
    )


def _write_predictions(
    run: Run, name: str, seeds: Sequence[int], models: Sequence[TestedModel]
) -> None:
    """Write the predictions of an entry: those of the first seed, and a file for each seed."""
    for seed, model in zip(seeds, models, strict=True):
        if len(seeds) > 1:
            write_predictions(run.folder(name) / "seeds" / f"{seed}.parquet", model.predictions)
    write_predictions(run.predictions_file(name), models[0].predictions)


def _read(run: Run, fit: Fit) -> Predictions:
    return _read_cached(str(fit.predictions(run)), fit.predictions(run).stat().st_mtime_ns)


@lru_cache(64)
def _read_cached(path: str, modified: int) -> Predictions:
    """Read predictions once for each modification time of the file."""
    return read_predictions(Path(path))


METHOD = "percentile bootstrap of patients, mean over seeds"
PAIRED = {
    True: "t, patients (bootstrap) and paired seeds, corrected over the family",
    False: "t, patients (bootstrap), these models, corrected over the family",
}
"""The ``interval_method`` of differences: with several seeds, and with one."""

CORRECTED = "step-down max-t over entries and numbers"
CORRECTED_EXPLORATORY = "step-down max-t over what is exploratory, which the plan does not test"
"""The ``p_method`` of differences that the plan tests, and of exploratory ones."""

REASON = "a group lacks a class"
"""The reason of undefined numbers."""


def write_numbers(run: Run, result: Result) -> None:
    """Write a row for each number of each entry, and for each difference from erm."""
    rows = [
        _value_row(result, name, key, values)
        for name, numbers in result.values.items()
        for key, values in numbers.items()
    ]
    run.write_metrics([*rows, *_difference_rows(result)])


def _value_row(result: Result, name: str, key: Key, values: Floats) -> MetricRow:
    mean = values.mean(axis=0)
    value = float(mean[0]) if mean[0] == mean[0] else None
    low, high = percentile_interval(mean) or (None, None)
    return _row(result, name, key, value, low, high, METHOD)


def _difference_rows(result: Result) -> Iterator[MetricRow]:
    for difference in result.differences:
        row = _row(
            result,
            difference.recipe,
            difference.key,
            difference.value,
            difference.low,
            difference.high,
            PAIRED[result.seeds > 1],
        )
        yield replace(
            row,
            against=ERM,
            p=difference.p,
            p_adjusted=difference.p_adjusted,
            p_method=_p_method(result, difference),
        )


def _p_method(result: Result, difference: Difference) -> str | None:
    if difference.p_adjusted is None:
        return None
    return CORRECTED if result.is_planned(difference) else CORRECTED_EXPLORATORY


def _row(
    result: Result,
    name: str,
    key: Key,
    value: float | None,
    low: float | None,
    high: float | None,
    method: str,
) -> MetricRow:
    n, patients, positives = result.sizes[key]
    return MetricRow(
        model=name,
        split="test",
        attribute=key.attribute,
        group=key.group,
        base=key.base,
        aggregate=key.aggregate,
        value=value,
        low=low if value is not None else None,
        high=high if value is not None else None,
        level=None if low is None else 1 - CLAIM,
        interval_method=None if low is None else method,
        n=n,
        patients=patients,
        positives=positives,
        undefined=REASON if value is None else None,
    )
