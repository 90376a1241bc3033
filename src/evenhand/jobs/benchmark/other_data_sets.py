"""Benchmarks of other data sets: their verdicts, and a test of ranks for six data sets or more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run, finished_run
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.plan import read_plan
from evenhand.jobs.benchmark.record import DataSets, PlanRecord, RecipeTerms
from evenhand.jobs.benchmark.settings import BenchmarkSettings, split_primary
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.ranks import MIN_DATA_SETS, RankTest, rank_recipes
from evenhand.metrics.recipes import is_better
from evenhand.metrics.rows import EVERYBODY
from evenhand.reporting.text.numbers import join_words, p_value_text, plain
from evenhand.reporting.verdicts import Verdict


@dataclass(frozen=True)
class OtherBenchmark:
    """The benchmark of another data set.

    Attributes
    ----------
    name
        The name of its folder.
    values
        The primary number of each planned entry, as mean over its attributes.
    verdict
        The text of its verdicts on the primary number.
    """

    name: str
    values: Mapping[str, float]
    verdict: str


def read_others(settings: BenchmarkSettings, names: Sequence[str]) -> tuple[OtherBenchmark, ...]:
    """Read the benchmarks of other data sets, which must have the same entries and terms.

    Parameters
    ----------
    settings
        The settings of this benchmark.
    names
        The names of its planned entries.

    Raises
    ------
    EvenhandError
        If a folder holds no finished benchmark, or one that lacks an entry or has another primary
        number, number of trials, learning rate or number of epochs.
    """
    return tuple(_read_other(path, settings, names) for path in settings.also)


def _read_other(path: Path, settings: BenchmarkSettings, names: Sequence[str]) -> OtherBenchmark:
    run = finished_run(path)
    if run.head.job != "benchmark":
        raise EvenhandError(
            f"--also {path}: it holds a run of {run.head.job!r} and not a benchmark. Leave it out."
        )
    record = read_plan(run)
    _refuse_other_terms(path, settings, names, record.plan)
    metric = record.plan.primary_metric
    attributes = record.plan.primary_attributes
    values = {entry.name: entry.mean(metric, attributes) for entry in record.entries}
    undefined = [name for name in names if values.get(name) is None]
    if undefined:
        raise EvenhandError(
            f"--also {path}: {metric} of {', '.join(undefined)} is undefined there, so that the "
            "data sets cannot be compared. Leave it out."
        )
    if record.primary_verdicts is None:
        raise EvenhandError(
            f"--also {path}: an earlier version wrote it without the verdicts on {metric}. Write "
            f"its results again: evenhand report {path}"
        )
    means = {name: values[name] or 0.0 for name in names}
    verdict = " ".join(record.primary_verdicts) or f"It tests no entry by {metric}."
    return OtherBenchmark(path.resolve().name, means, verdict)


def _refuse_other_terms(
    path: Path, settings: BenchmarkSettings, names: Sequence[str], plan: PlanRecord
) -> None:
    lacking = sorted({*names} - {entry.name for entry in plan.entries})
    if lacking:
        raise EvenhandError(
            f"--also {path} lacks the entries {', '.join(lacking)}, so that the "
            "data sets cannot be compared. Run it with them, or leave it out."
        )
    terms = {
        name: (getattr(plan.recipe, name), getattr(settings, name))
        for name in RecipeTerms.model_fields
    }
    terms["primary"] = (plan.primary_metric, split_primary(settings.primary)[0])
    for name, (other, own) in terms.items():
        if other != own:
            raise EvenhandError(
                f"--also {path} has {name} {other}, and this command {own}: data sets are compared "
                "on the same terms only. Give the same value, or leave it out."
            )


def combine_data_sets(
    run: Run, result: Result, others: Sequence[OtherBenchmark], names: Sequence[str]
) -> DataSets:
    """Return the results of this data set and the others together."""
    means = {
        name: [float(result.values[name][key][:, 0].mean()) for key in result.primary]
        for name in names
    }
    values = {
        name: (sum(numbers) / len(numbers), *(other.values[name] for other in others))
        for name, numbers in means.items()
    }
    better = is_better(result.primary[0], 1.0)
    test = rank_recipes(values, ERM, higher_is_better=better)
    folders = (run.root.resolve().name, *(other.name for other in others))
    verdicts = tuple(other.verdict for other in others)
    return DataSets(values=values, names=folders, verdicts=verdicts, test=test)


def data_sets_verdict(data_sets: DataSets) -> Verdict:
    """Return the verdict on all data sets; with fewer than `MIN_DATA_SETS`, there is no test."""
    count, about = len(data_sets.names), f"{len(data_sets.names)} data sets"
    ranks = join_words([f"{name} {plain(rank)}" for name, rank in data_sets.test.ranks.items()])
    if count < MIN_DATA_SETS:
        text = (
            f"Ranks are tested with {MIN_DATA_SETS} data sets or more; with fewer, each data set "
            f"has its own verdict. Mean ranks: {ranks}."
        )
        return Verdict(about, EVERYBODY, claim=False, text=text)
    shown = list(_better_entries(data_sets.test))
    p = data_sets.test.p
    friedman = "" if p is None else f"Friedman's test of equal ranks: p {p_value_text(p)}. "
    shown_better = (
        f"Shown to rank better than {ERM}: {join_words(shown)}."
        if shown
        else "None was shown to be better."
    )
    better = [name for name in data_sets.test.p_adjusted if _ranks_better(data_sets.test, name)]
    lowest = min((data_sets.test.p_adjusted[name] for name in better), default=None)
    text = f"{friedman}{shown_better} Mean ranks: {ranks}. Corrected by Holm."
    return Verdict(about, EVERYBODY, claim=bool(shown), text=text, p_adjusted=lowest)


def _better_entries(test: RankTest) -> Iterator[str]:
    if test.p is not None and test.p > CLAIM:
        return
    for name, p in test.p_adjusted.items():
        if p <= CLAIM and _ranks_better(test, name):
            yield f"{name} (p {p_value_text(p)})"


def _ranks_better(test: RankTest, name: str) -> bool:
    return test.ranks[name] < test.ranks[ERM]
