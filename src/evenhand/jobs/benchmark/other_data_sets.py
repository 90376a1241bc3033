"""Benchmarks of other data sets beside one: each with its verdict, and ranks from six on."""

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
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import about_number
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.ranks import MIN_DATA_SETS, RankTest, rank_recipes
from evenhand.metrics.recipes import is_better
from evenhand.reporting.text.numbers import listed, p_value, plain
from evenhand.reporting.verdicts import Verdict, read_verdicts


@dataclass(frozen=True)
class Other:
    """The benchmark of another data set.

    Attributes
    ----------
    name
        Of its folder.
    values
        The number that decides, of each planned entry, the mean over its attributes.
    verdict
        What it says of the number that decides.
    """

    name: str
    values: Mapping[str, float]
    verdict: str


def read_others(settings: BenchmarkSettings, names: Sequence[str]) -> tuple[Other, ...]:
    """Read the benchmarks of other data sets, which have to compare the same on the same terms.

    Parameters
    ----------
    settings
        Of this benchmark.
    names
        Of its planned entries.

    Raises
    ------
    EvenhandError
        One is no finished benchmark, lacks an entry, decides by another number, or has another
        number of trials, other learning rates or epochs.
    """
    return tuple(_other(path, settings, names) for path in settings.also)


def _other(path: Path, settings: BenchmarkSettings, names: Sequence[str]) -> Other:
    run = finished_run(path)
    if run.head.job != "benchmark":
        raise EvenhandError(f"--also {path}: it holds a run of {run.head.job!r}, no benchmark.")
    record = read_plan(run)
    _refuse_other_terms(path, settings, names, record.plan)
    base = record.plan.primary_metric
    attributes = record.plan.primary_attributes
    values = {entry.name: entry.mean(base, attributes) for entry in record.entries}
    undefined = [name for name in names if values.get(name) is None]
    if undefined:
        raise EvenhandError(
            f"--also {path}: {base} of {', '.join(undefined)} is undefined there, so that the "
            "data sets cannot be compared. Leave it out."
        )
    means = {name: values[name] or 0.0 for name in names}
    return Other(path.resolve().name, means, _deciding_verdict(run, record.plan))


def _deciding_verdict(run: Run, plan: PlanRecord) -> str:
    """Return what a benchmark says of the number that decides, of each of its attributes."""
    about = about_number(plan.primary_metric)
    verdicts = read_verdicts(run.root / "verdicts.json")
    texts = [verdict.text for verdict in verdicts if verdict.about == about]
    return " ".join(texts) or f"It tests no entry by {plan.primary_metric}."


def _refuse_other_terms(
    path: Path, settings: BenchmarkSettings, names: Sequence[str], plan: PlanRecord
) -> None:
    lacking = sorted({*names} - {entry.name for entry in plan.entries})
    if lacking:
        raise EvenhandError(
            f"--also {path} lacks the entries {', '.join(lacking)}, so that the "
            "data sets cannot be compared. Run it with them, or leave it out."
        )
    own = {name: getattr(settings, name) for name in RecipeTerms.model_fields}
    other = {name: getattr(plan.recipe, name) for name in RecipeTerms.model_fields}
    own["primary"] = settings.primary.partition(":")[0]
    other["primary"] = plan.primary_metric
    for name, value in own.items():
        if other[name] != value:
            raise EvenhandError(
                f"--also {path} has {name} {other[name]}, and this command {value}: entries are "
                "compared on the same terms alone."
            )


def combine_data_sets(
    run: Run, result: Result, others: Sequence[Other], names: Sequence[str]
) -> DataSets:
    """Put this data set and the others together."""
    means = {
        name: [float(result.values[name][key][:, 0].mean()) for key in result.primary]
        for name in names
    }
    values = {
        name: (sum(own) / len(own), *(other.values[name] for other in others))
        for name, own in means.items()
    }
    better = is_better(result.primary[0], 1.0)
    test = rank_recipes(values, ERM, higher_is_better=better)
    folders = (run.root.resolve().name, *(other.name for other in others))
    verdicts = tuple(other.verdict for other in others)
    return DataSets(values=values, names=folders, verdicts=verdicts, test=test)


def data_sets_verdict(data_sets: DataSets) -> Verdict:
    """Return what the data sets say together; below `MIN_DATA_SETS` no test is made."""
    count, about = len(data_sets.names), f"{len(data_sets.names)} data sets"
    ranks = listed([f"{name} {plain(rank)}" for name, rank in data_sets.test.ranks.items()])
    if count < MIN_DATA_SETS:
        text = (
            f"Ranks are tested from {MIN_DATA_SETS} data sets on; below, each data set has its own "
            f"verdict. Mean ranks: {ranks}."
        )
        return Verdict(about, "*", claim=False, text=text)
    shown = list(_shown(data_sets.test))
    p = data_sets.test.p
    friedman = "" if p is None else f"Friedman's test that all are alike: p {p_value(p)}. "
    shown_better = (
        f"Shown to rank better than {ERM}: {listed(shown)}."
        if shown
        else "None was shown to be better."
    )
    better = [name for name in data_sets.test.p_adjusted if _ranks_better(data_sets.test, name)]
    lowest = min((data_sets.test.p_adjusted[name] for name in better), default=None)
    text = f"{friedman}{shown_better} Mean ranks: {ranks}. Corrected by Holm."
    return Verdict(about, "*", claim=bool(shown), text=text, p_adjusted=lowest)


def _shown(test: RankTest) -> Iterator[str]:
    if test.p is not None and test.p > CLAIM:
        return
    for name, p in test.p_adjusted.items():
        if p <= CLAIM and _ranks_better(test, name):
            yield f"{name} (p {p_value(p)})"


def _ranks_better(test: RankTest, name: str) -> bool:
    return test.ranks[name] < test.ranks[ERM]
