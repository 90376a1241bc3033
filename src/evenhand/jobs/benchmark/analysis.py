"""From the predictions of all folds to the differences between entries.

Every patient is tested in one fold, so that the predictions of all folds together are those of
everybody, once for each entry and seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import hadamard

from evenhand.evaluation.rows import cut_of, groups_in, scored_rows
from evenhand.experiments.runs import Run
from evenhand.jobs.benchmark.entries import ERM, Entry
from evenhand.jobs.benchmark.fitting import Fit, fit_record
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.methods.mitigate import mitigate
from evenhand.metrics.estimate import point
from evenhand.metrics.groups import Excluded, Groups, excluded_groups
from evenhand.metrics.recipes import (
    OVERALL,
    Difference,
    Values,
    compare_recipes,
    is_better,
    rarer_patients,
    stability,
    values_of,
)
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.scored import Scored, scored
from evenhand.metrics.target_names import find_target
from evenhand.metrics.targets import OVERALL as TARGET_OVERALL
from evenhand.networks.checkpoints import load_tensors
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions

CHOSEN = "chosen on validation"
"""What is made of the entry with the best validation target of each fold and seed."""

DEALS = 16
"""Orders in which the fits of each fold are dealt out to three seeds or more."""

Groupings = Mapping[str, Groups]


@dataclass(frozen=True, eq=False)
class Tested:
    """What one entry says of test patients, of one fold or of all.

    Attributes
    ----------
    predictions
        The rows and their scores.
    rows
        The same with decisions, at the threshold of each fold's validation patients, or as a
        method decides.
    """

    predictions: Predictions
    rows: Scored


ByFold = Sequence[Sequence[Tested]]
"""What an entry says of test patients, by seed and fold."""


@dataclass(frozen=True)
class Selection:
    """What choosing an entry on validation patients gave.

    Attributes
    ----------
    picks
        How often each entry was chosen, over folds and seeds.
    value, best_value
        The number that decides, of what was chosen, and of the entry that is best on test patients.
    best
        That entry. Its value is the best of several, and so looks better than it is.
    regret
        By how much the best entry is better than what was chosen; 0 where it is not.
    other_winner
        Share of resamples of patients and seeds in which another entry is the best.
    """

    picks: Mapping[str, int]
    value: float
    best_value: float
    best: str
    regret: float
    other_winner: float


@dataclass(frozen=True, eq=False)
class Result:
    """All numbers of a benchmark.

    Attributes
    ----------
    values
        The numbers of each entry, ``(S, 1 + B)`` each.
    differences
        Each other entry less `ERM`, in each number; one family.
    sizes
        Samples, patients and positives behind each number.
    seeds
        How many models each entry has.
    primary
        The numbers that decide, one for each attribute.
    worst
        The level of each attribute that `ERM` serves worst on validation.
    selection
        What choosing on validation gave; None where only one entry is trained.
    """

    values: Mapping[str, Values]
    differences: Sequence[Difference]
    sizes: Mapping[Key, tuple[int, int, int]]
    seeds: int
    primary: tuple[Key, ...] = ()
    worst: Mapping[str, str] = field(default_factory=dict)
    selection: Selection | None = None

    def of_recipe(self, name: str) -> list[Difference]:
        """Return the differences of one entry."""
        return [one for one in self.differences if one.recipe == name]


def primary_keys(settings: BenchmarkSettings) -> tuple[Key, ...]:
    """Return the numbers that decide: one, or one for each attribute."""
    target = find_target(settings.primary)
    metric = target.metric.name
    if target.aggregate == TARGET_OVERALL:
        return (Key(EVERYBODY, EVERYBODY, metric),)
    return tuple(Key(name, EVERYBODY, metric, target.aggregate) for name in settings.attribute)


def analyse(run: Run, entries: Sequence[Entry], settings: BenchmarkSettings) -> Result:
    """Compare the entries of a run whose fits are finished, and keep what they say of everybody."""
    seeds = [settings.seed + number for number in range(settings.seeds)]
    tested = {
        entry.name: [list(_by_fold(run, entry, seed, settings)) for seed in seeds]
        for entry in entries
    }
    for name, by_seed in tested.items():
        _write(run, name, seeds, [everybody(folds) for folds in by_seed])
    trained = [entry for entry in entries if entry.stage == "training"]
    picks: Counter[str] = Counter()
    if len(trained) > 1:
        tested[CHOSEN] = [_chosen(run, trained, seed, settings, picks) for seed in seeds]
    result = compare(tested, settings)
    primary = primary_keys(settings)
    return replace(
        result,
        primary=primary,
        worst=_worst(run, seeds, settings),
        selection=_selection(result.values, trained, primary[0], picks) if picks else None,
    )


def compare(tested: Mapping[str, ByFold], settings: BenchmarkSettings) -> Result:
    """Compare entries with erm by what they say of test patients, of each seed and fold."""
    first = everybody(tested[ERM][0])
    order = _order(tested[ERM][0])
    groups = groups_in(first.predictions, settings.attribute)
    excluded = excluded_groups(settings.exclude_group, groups)
    rng = np.random.default_rng(settings.seed)
    patients = resample(len(first.rows.members), Bootstrap(), rng)
    once = resample(len(first.rows.members), None, rng)
    at = float(np.clip(first.rows.labels.mean(), 0.01, 0.99))
    overall = (*OVERALL, f"net_benefit_at[{at:.2f}]")  # one threshold for all: the prevalence
    deals = _deals(settings, rng)

    def numbers(models: Iterable[Sequence[Tested]], resamples: Resamples) -> Values:
        rows = (_joined(first.rows, folds, order) for folds in models)
        by_seed = [values_of(one, groups, resamples, excluded, overall) for one in rows]
        return {key: np.stack([one[key] for one in by_seed]) for key in by_seed[0]}

    values, recombined = {}, {}
    for name, by_seed in tested.items():
        values[name] = numbers(by_seed, patients)
        points = numbers((folds for deal in deals for folds in _dealt(by_seed, deal)), once)
        recombined[name] = {key: one.reshape(len(deals), -1) for key, one in points.items()}
    keys = values[ERM]
    rarer = {key: _rarer(first.rows, groups, excluded, key) for key in keys}
    return Result(
        values=values,
        differences=compare_recipes(
            values, ERM, rarer, rng, recombined=recombined, folds=settings.folds
        ),
        sizes=_sizes(first.rows, groups, excluded, keys),
        seeds=settings.seeds,
    )


def _deals(settings: BenchmarkSettings, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Return orders ``(folds, S)`` in which the fits of each fold are dealt out to the seeds.

    With two seeds they are balanced over the folds (McCarthy, Rev. Int. Stat. Inst. 1969), so that
    the variance of a sum over folds comes out exactly.
    """
    plain = np.tile(np.arange(settings.seeds), (settings.folds, 1))
    if settings.seeds != 2:
        return [plain, *(rng.permuted(plain, axis=1) for _ in range(DEALS - 1))]
    size = 2 ** int(np.ceil(np.log2(settings.folds + 1)))
    swapped = hadamard(size)[:, 1 : settings.folds + 1] < 0
    return [np.where(row[:, None], plain[:, ::-1], plain) for row in swapped]


def _dealt(by_seed: ByFold, deal: NDArray[np.intp]) -> Iterator[list[Tested]]:
    """Yield the fits of each seed after they were dealt out anew in every fold."""
    for column in deal.T:
        yield [by_seed[seed][fold] for fold, seed in enumerate(column)]


def _by_fold(run: Run, entry: Entry, seed: int, settings: BenchmarkSettings) -> Iterator[Tested]:
    for fold in range(settings.folds):
        if entry.stage == "afterwards":
            yield _adjusted(run, entry, fold, seed, settings)
        else:
            yield _tested(run, Fit(entry, fold, seed))


def _tested(run: Run, fit: Fit) -> Tested:
    predictions = _read(run, fit)
    test = predictions.of_split("test")
    return Tested(test, scored_rows(test, cut_of(predictions)))


def _adjusted(run: Run, entry: Entry, fold: int, seed: int, settings: BenchmarkSettings) -> Tested:
    """Adjust the erm model of a fold and seed on its validation patients."""
    fit = Fit(Entry(ERM), fold, seed)
    predictions = _read(run, fit)
    val, test = (predictions.of_split(name) for name in ("val", "test"))
    inputs = {"val": val.scores, "test": test.scores}
    if entry.needs_features:
        kept = load_tensors(fit.folder(run) / "features.safetensors")
        inputs = {name: kept[name].numpy().astype(np.float64) for name in inputs}
    by = entry.attributes(settings)
    groups = {
        name: pd.DataFrame({attribute: part.group(attribute).astype(str) for attribute in by})
        for name, part in (("val", val), ("test", test))
    }
    patients = val.table["patient_id"].to_numpy()
    adjusted = mitigate(
        inputs["val"], val.labels, groups["val"], entry.method, patients=patients, seed=seed
    )
    new = adjusted.scores(inputs["test"], groups["test"])
    changed = replace(test, table=test.table.assign(score=new))
    old = adjusted.scores(inputs["val"], groups["val"])
    before = replace(val, table=val.table.assign(score=old))
    rows = scored_rows(changed, cut_of(before))
    if hasattr(adjusted.fit, "decide"):
        decisions = adjusted.decisions(inputs["test"], groups["test"])
        rows = replace(rows, decisions=np.asarray(decisions, dtype=np.intp))
    return Tested(changed, rows)


def _chosen(
    run: Run,
    trained: Sequence[Entry],
    seed: int,
    settings: BenchmarkSettings,
    picks: Counter[str],
) -> list[Tested]:
    """Return what the best entry on validation says, chosen for each fold by itself."""
    sign = 1.0 if find_target(settings.target[0]).maximise else -1.0
    folds = []
    for fold in range(settings.folds):
        fits = [Fit(entry, fold, seed) for entry in trained]
        best = max(fits, key=lambda fit: sign * fit_record(run, fit).value)
        picks[best.entry.name] += 1
        folds.append(_tested(run, best))
    return folds


def everybody(folds: Sequence[Tested]) -> Tested:
    """Join the folds; samples are in the order of their names."""
    order = _order(folds)
    table = pd.concat([one.predictions.table for one in folds], ignore_index=True)
    first = folds[0].predictions
    predictions = Predictions(table.iloc[order].reset_index(drop=True), first.classes, first.levels)
    rows = scored(
        predictions.labels,
        predictions.scores,
        patients=predictions.patients[0],
        classes=predictions.classes,
    )
    return Tested(predictions, _joined(rows, folds, order))


def _order(folds: Sequence[Tested]) -> NDArray[np.intp]:
    """Return the places of the folds' samples, one fold after the other, by their names."""
    names = np.concatenate([one.predictions.table["sample_id"].astype(str) for one in folds])
    return np.argsort(names, kind="stable")


def _joined(rows: Scored, folds: Sequence[Tested], order: NDArray[np.intp]) -> Scored:
    """Return rows of everybody with the scores and decisions that the folds say."""
    parts = [one.rows for one in folds]
    return replace(
        rows,
        scores=np.concatenate([one.scores for one in parts])[order],
        decisions=np.concatenate([one.decisions for one in parts])[order],
        thresholds=np.concatenate([np.asarray(one.thresholds) for one in parts])[order],
    )


def _places(
    rows: Scored, groups: Groupings, excluded: Excluded, key: Key
) -> list[NDArray[np.intp]]:
    """Return the samples behind a number: of everybody, of a group, or of each group."""
    if key.attribute == EVERYBODY:
        return [np.arange(len(rows))]
    of = groups[key.attribute]
    if key.group != EVERYBODY:
        return [of.rows(key.group)]
    return [of.rows(level) for level in of.compared(excluded.get(key.attribute, ()))]


def _rarer(rows: Scored, groups: Groupings, excluded: Excluded, key: Key) -> int:
    """Return how many patients of the rarer class a number rests on, in its smallest group."""
    return min(rarer_patients(rows, places) for places in _places(rows, groups, excluded, key))


def _sizes(
    rows: Scored, groups: Groupings, excluded: Excluded, keys: Values
) -> dict[Key, tuple[int, int, int]]:
    sizes = {}
    for key in keys:
        part = rows.take(np.concatenate(_places(rows, groups, excluded, key)))
        sizes[key] = (len(part), len(part.members), int(part.labels.sum()))
    return sizes


def _worst(run: Run, seeds: Sequence[int], settings: BenchmarkSettings) -> dict[str, str]:
    """Return each attribute's level with the lowest AUC of erm on validation, mean over fits."""
    found: dict[tuple[str, str], list[float]] = {}
    auc = find_metric("auc")
    for seed in seeds:
        for fold in range(settings.folds):
            val = _read(run, Fit(Entry(ERM), fold, seed)).of_split("val")
            rows, groups = scored_rows(val, cut_of(val)), groups_in(val, settings.attribute)
            excluded = excluded_groups(settings.exclude_group, groups)
            for name, of in groups.items():
                for level in of.compared(excluded.get(name, ())):
                    value = point(rows.take(of.rows(level)), auc, (1,))
                    found.setdefault((name, level), []).append(value)
    means = {key: float(np.mean(values)) for key, values in found.items()}
    worst: dict[str, str] = {}
    for (name, level), mean in sorted(means.items(), key=lambda item: item[1]):
        if np.isfinite(mean):
            worst.setdefault(name, level)
    return worst


def _selection(
    values: Mapping[str, Values], trained: Sequence[Entry], key: Key, picks: Counter[str]
) -> Selection:
    means = {entry.name: float(values[entry.name][key][:, 0].mean()) for entry in trained}
    sign = 1.0 if is_better(key, 1.0) else -1.0
    best = max(means, key=lambda name: sign * means[name])
    chosen = float(values[CHOSEN][key][:, 0].mean())
    competing = {entry.name: values[entry.name] for entry in trained}
    regret = max(sign * (means[best] - chosen), 0.0)
    return Selection(picks, chosen, means[best], best, regret, stability(competing, key))


def _write(run: Run, name: str, seeds: Sequence[int], models: Sequence[Tested]) -> None:
    """Keep what an entry says of everybody: the first seed as its predictions, each beside them."""
    for seed, one in zip(seeds, models, strict=True):
        if len(seeds) > 1:
            write_predictions(run.folder(name) / "seeds" / f"{seed}.parquet", one.predictions)
    write_predictions(run.predictions_file(name), models[0].predictions)


def _read(run: Run, fit: Fit) -> Predictions:
    return _cached(str(fit.predictions(run)), fit.predictions(run).stat().st_mtime_ns)


@lru_cache(64)
def _cached(path: str, changed: int) -> Predictions:
    return read_predictions(Path(path))
