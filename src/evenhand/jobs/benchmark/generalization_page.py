"""What a benchmark says of patients of elsewhere and of other data sets, on the page."""

from __future__ import annotations

from dataclasses import dataclass

from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.external import ExternalResult, keys_across
from evenhand.jobs.benchmark.other_data_sets import data_sets_verdict
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.jobs.benchmark.verdicts import change_text, number_name
from evenhand.metrics.recipes import Difference
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.reporting.section import PART, section
from evenhand.reporting.sections.assessment import Part, Table
from evenhand.reporting.sections.assessment import PartAnswer as Answer
from evenhand.reporting.text.numbers import p_value, plain
from evenhand.reporting.verdicts import Verdict

TRANSFERRED, REVERSED, OPEN = "transferred", "reversed", "not shown to transfer"


@dataclass(frozen=True)
class Transfer:
    """Whether a difference that is shown here is shown elsewhere."""

    outcome: str
    verdict: Verdict


def transfers_of(result: Result, outside: ExternalResult) -> list[Transfer]:
    """Return, of everything that is shown here, whether it is shown elsewhere."""
    shown = {
        (difference.recipe, difference.key): difference
        for difference in result.planned
        if difference.better
    }
    return [
        _transfer(shown[difference.recipe, difference.key], difference)
        for difference in outside.differences
        if (difference.recipe, difference.key) in shown
    ]


def _transfer(own: Difference, there: Difference) -> Transfer:
    outcome = {True: TRANSFERRED, False: REVERSED, None: OPEN}[there.better]
    about = f"{own.recipe} elsewhere: {number_name(own.key)}"
    p = "" if there.p_adjusted is None else f", p {p_value(there.p_adjusted)}"
    text = f"{outcome.capitalize()}: {change_text(own)} here, {change_text(there)}{p} there."
    if there.better is None and there.detectable is not None:
        text += f" A difference of {plain(there.detectable)} would have shown with power .8."
    claim, p_adjusted = there.better is not None, there.p_adjusted
    return Transfer(outcome, Verdict(about, own.key.attribute, claim, text, p_adjusted))


@section("benchmark", "elsewhere", "Elsewhere", place=50, template=PART)
def external_part(outcome: Outcome) -> Part | None:
    """Return what is said of patients of elsewhere; None where there are none."""
    result, outside = outcome.result, outcome.outside
    if outside is None:
        return None
    answers = tuple(map(_chip, transfers_of(result, outside)))
    keys = keys_across(outside.values[ERM])
    size = outside.sizes[keys[0]]
    tests = (
        "What is shown here is tested there, corrected among these tests."
        if answers
        else "Nothing is shown here, so that nothing could transfer."
    )
    says = (
        f"{size[0]:,} samples of {size[1]:,} patients, scored by the models of every fold and "
        "seed; the numbers are means over them. Decisions are cut as validation patients of here "
        f"say. {tests}"
    )
    rows = [
        (name, *(f"{_mean(result, name, key)} → {_plain(values[key])}" for key in keys))
        for name, values in outside.values.items()
    ]
    columns = ("Entry", *(_column(key) for key in keys))
    table = Table("Here → elsewhere", columns, tuple(rows))
    return Part(answers=answers, sentences=(says,), tables=(table,))


def _chip(transfer: Transfer) -> Answer:
    outcome, verdict = transfer.outcome, transfer.verdict
    look = {TRANSFERRED: "better", REVERSED: "worse"}.get(outcome, "unsure")
    where = "" if verdict.attribute == EVERYBODY else f", {verdict.attribute}"
    return Answer(f"{verdict.about}{where}", look, outcome, verdict.text, ())


def _column(key: Key) -> str:
    name = number_name(key)
    return name if key.attribute == EVERYBODY else f"{name}, {key.attribute}"


def _mean(result: Result, name: str, key: Key) -> str:
    values = result.values[name].get(key)
    return "undefined" if values is None else _plain(values)


def _plain(values: Floats) -> str:
    mean = float(values[:, 0].mean())
    return "undefined" if mean != mean else plain(mean)


@section("benchmark", "data-sets", "Several data sets", place=60, template=PART)
def data_sets_part(outcome: Outcome) -> Part | None:
    """Return what is said of several data sets; None where there is one."""
    data_sets = outcome.data_sets
    if data_sets is None:
        return None
    verdict = data_sets_verdict(data_sets)
    chip = "shown" if verdict.claim else "not shown"
    answer = Answer(verdict.about, "better" if verdict.claim else "unsure", chip, verdict.text, ())
    rows = [
        (name, plain(data_sets.test.ranks[name]), *(plain(value) for value in values))
        for name, values in data_sets.values.items()
    ]
    columns = ("Entry", "Mean rank", *data_sets.names)
    says = [f"{n}: {t}" for n, t in zip(data_sets.names[1:], data_sets.verdicts, strict=True)]
    table = Table("The number that decides", columns, tuple(rows))
    return Part(answers=(answer,), sentences=tuple(says), tables=(table,))
