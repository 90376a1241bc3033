"""The sections of a benchmark's page on external patients and on several data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.external import ExternalResult, keys_across
from evenhand.jobs.benchmark.other_data_sets import data_sets_verdict
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.jobs.benchmark.verdicts import change_text, number_name
from evenhand.metrics.recipes import Difference
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.reporting.part import AnswerBox, Part, Table
from evenhand.reporting.section import PART, section
from evenhand.reporting.text.numbers import p_value_text, plain
from evenhand.reporting.verdicts import Verdict

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
