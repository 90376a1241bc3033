"""Benchmarks of other data sets beside one: each with its verdict, and ranks from six on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run, finished_run
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.plan import BenchmarkRecord, read_plan
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.ranks import FEWEST, RankTest, rank_recipes
from evenhand.metrics.recipes import is_better
from evenhand.metrics.rows import full_name
from evenhand.reporting.text.numbers import listed, p_value, plain
from evenhand.reporting.verdicts import Verdict, read_verdicts

TERMS = ("trials", "lr_min", "lr_max", "epochs")
"""What of the recipe has to be the same on every data set."""


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


@dataclass(frozen=True)
class Across:
    """What several data sets say together.

    Attributes
    ----------
    values
        The number that decides, of each entry, for each data set.
    names
        Of the data sets, this one first.
    verdicts
        What each of the others says.
    test
        Of the ranks.
    """

    values: Mapping[str, Sequence[float]]
    names: tuple[str, ...]
    verdicts: tuple[str, ...]
    test: RankTest


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
    _refuse_other_terms(path, settings, names, record)
    base = record.plan["primary"].partition(":")[0]
    values = {entry["name"]: _primary(entry["numbers"], base) for entry in record.entries}
    undefined = [name for name in names if values.get(name) is None]
    if undefined:
        raise EvenhandError(
            f"--also {path}: {base} of {', '.join(undefined)} is undefined there, so that the "
            "data sets cannot be compared. Leave it out."
        )
    verdict = read_verdicts(run.root / "verdicts.json")[0].text
    return Other(path.resolve().name, {name: values[name] or 0.0 for name in names}, verdict)


def _refuse_other_terms(
    path: Path, settings: BenchmarkSettings, names: Sequence[str], record: BenchmarkRecord
) -> None:
    there = {entry["name"] for entry in record.plan["entries"]}
    if {*names} - there:
        raise EvenhandError(
            f"--also {path} lacks the entries {', '.join(sorted({*names} - there))}, so that the "
            "data sets cannot be compared. Run it with them, or leave it out."
        )
    given = {name: getattr(settings, name) for name in TERMS}
    given["primary"] = settings.primary.partition(":")[0]
    own = {name: record.plan["recipe"][name] for name in TERMS}
    own["primary"] = record.plan["primary"].partition(":")[0]
    for name, value in given.items():
        if own[name] != value:
            raise EvenhandError(
                f"--also {path} has {name} {own[name]}, and this command {value}: entries are "
                "compared on the same terms alone."
            )


def _primary(numbers: Sequence[Mapping[str, object]], primary: str) -> float | None:
    """Return the number that decides, the mean over attributes; None where one is undefined."""
    values = [
        number["value"]
        for number in numbers
        if number["group"] == "*"
        and primary == full_name(str(number["base"]), _text(number["aggregate"]))
    ]
    defined = [float(value) for value in values if isinstance(value, int | float)]
    return sum(defined) / len(defined) if values and len(defined) == len(values) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def across_of(run: Run, result: Result, others: Sequence[Other], names: Sequence[str]) -> Across:
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
    return Across(values, folders, tuple(other.verdict for other in others), test)


def verdict_of(across: Across) -> Verdict:
    """Return what the data sets say together; below `FEWEST` no test is made."""
    count, about = len(across.names), f"{len(across.names)} data sets"
    ranks = listed([f"{name} {plain(rank)}" for name, rank in across.test.ranks.items()])
    if count < FEWEST:
        text = (
            f"Ranks are tested from {FEWEST} data sets on; below, each data set has its own "
            f"verdict. Mean ranks: {ranks}."
        )
        return Verdict(about, "*", claim=False, text=text)
    shown = list(_shown(across.test))
    p = across.test.p
    friedman = "" if p is None else f"Friedman's test that all are alike: p {p_value(p)}. "
    found = (
        f"Shown to rank better than {ERM}: {listed(shown)}."
        if shown
        else "None was shown to be better."
    )
    lowest = min(across.test.p_adjusted.values(), default=None)
    text = f"{friedman}{found} Mean ranks: {ranks}. Corrected by Holm."
    return Verdict(about, "*", claim=bool(shown), text=text, p_adjusted=lowest)


def _shown(test: RankTest) -> Iterator[str]:
    if test.p is not None and test.p > CLAIM:
        return
    for name, p in test.p_adjusted.items():
        if p <= CLAIM and test.ranks[name] < test.ranks[ERM]:
            yield f"{name} (p {p_value(p)})"
