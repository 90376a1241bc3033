"""External patients and benchmarks of other data sets: their verdicts, rank test and sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run, finished_run
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.external import ExternalResult, keys_across
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.jobs.benchmark.plan import read_plan
from evenhand.jobs.benchmark.record import DataSets, PlanRecord, RecipeTerms
from evenhand.jobs.benchmark.settings import BenchmarkSettings, split_primary
from evenhand.jobs.benchmark.verdicts import change_text, number_name
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.ranks import MIN_DATA_SETS, RankTest, rank_recipes
from evenhand.metrics.recipes import Difference, is_better
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.reporting.section import PART, AnswerBox, Part, Table, section
from evenhand.reporting.text.vocabulary import join_words, p_value_text, plain
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


TransferOutcome = Literal["transferred", "reversed", "not shown to transfer"]
TRANSFERRED: TransferOutcome = "transferred"
REVERSED: TransferOutcome = "reversed"
NOT_SHOWN: TransferOutcome = "not shown to transfer"


@dataclass(frozen=True)
class Transfer:
    """A difference that is shown on internal patients, tested on external patients."""

    outcome: TransferOutcome
    verdict: Verdict


def transfers_of(result: Result, external: ExternalResult) -> list[Transfer]:
    """Return the test, on external patients, of each difference shown on internal patients."""
    shown = {
        (difference.recipe, difference.key): difference
        for difference in result.planned
        if difference.better
    }
    return [
        _transfer(shown[difference.recipe, difference.key], difference)
        for difference in external.differences
        if (difference.recipe, difference.key) in shown
    ]


def _transfer(internal: Difference, external: Difference) -> Transfer:
    outcome = {True: TRANSFERRED, False: REVERSED, None: NOT_SHOWN}[external.better]
    about = f"{internal.recipe} on external patients: {number_name(internal.key)}"
    p = "" if external.p_adjusted is None else f", p {p_value_text(external.p_adjusted)}"
    text = (
        f"{outcome.capitalize()}: {change_text(internal)} on internal patients, "
        f"{change_text(external)}{p} on external patients."
    )
    if external.better is None and external.detectable is not None:
        text += f" A difference of {plain(external.detectable)} would have shown with power .8."
    claim, p_adjusted = external.better is not None, external.p_adjusted
    return Transfer(outcome, Verdict(about, internal.key.attribute, claim, text, p_adjusted))


@section("benchmark", "external", "External patients", place=50, template=PART)
def external_part(outcome: Outcome) -> Part | None:
    """Return the section on external patients; None without ``--external``."""
    result, external = outcome.result, outcome.external
    if external is None:
        return None
    answers = tuple(map(_answer_chip, transfers_of(result, external)))
    keys = keys_across(external.values[ERM])
    size = external.sizes[keys[0]]
    tests = (
        "Each difference that is shown on internal patients is tested on external patients; the "
        "p-values are corrected over these tests."
        if answers
        else "No difference is shown on internal patients, so none is tested on external patients."
    )
    sentence = (
        f"{size.samples:,} samples of {size.patients:,} external patients, scored by the models of "
        "every fold and seed; the numbers are means over these models. Decisions use the "
        f"thresholds of the internal validation patients. {tests}"
    )
    rows = []
    for name, values in external.values.items():
        internal = result.values[name]
        texts = (f"{_mean_text(internal.get(key))} → {_mean_text(values[key])}" for key in keys)
        rows.append((name, *texts))
    columns = ("Entry", *(_column(key) for key in keys))
    table = Table("Internal → external patients", columns, tuple(rows))
    return Part(answers=answers, sentences=(sentence,), tables=(table,))


def _answer_chip(transfer: Transfer) -> AnswerBox:
    outcome, verdict = transfer.outcome, transfer.verdict
    answer = {TRANSFERRED: "better", REVERSED: "worse"}.get(outcome, "unsure")
    attribute = "" if verdict.attribute == EVERYBODY else f", {verdict.attribute}"
    return AnswerBox(f"{verdict.about}{attribute}", answer, outcome, verdict.text, ())


def _column(key: Key) -> str:
    name = number_name(key)
    return name if key.attribute == EVERYBODY else f"{name}, {key.attribute}"


def _mean_text(values: Floats | None) -> str:
    mean = float("nan") if values is None else float(values[:, 0].mean())
    return "undefined" if mean != mean else plain(mean)


@section("benchmark", "data-sets", "Several data sets", place=60, template=PART)
def data_sets_part(outcome: Outcome) -> Part | None:
    """Return the section on several data sets; None without ``--also``."""
    data_sets = outcome.data_sets
    if data_sets is None:
        return None
    verdict = data_sets_verdict(data_sets)
    chip = "shown" if verdict.claim else "not shown"
    answer = AnswerBox(
        verdict.about, "better" if verdict.claim else "unsure", chip, verdict.text, ()
    )
    rows = [
        (name, plain(data_sets.test.ranks[name]), *(plain(value) for value in values))
        for name, values in data_sets.values.items()
    ]
    columns = ("Entry", "Mean rank", *data_sets.names)
    others = zip(data_sets.names[1:], data_sets.verdicts, strict=True)
    sentences = tuple(f"{name}: {text}" for name, text in others)
    table = Table("The primary number", columns, tuple(rows))
    return Part(answers=(answer,), sentences=sentences, tables=(table,))
