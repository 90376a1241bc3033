"""The page of a benchmark, which opens with the number that decides."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.experiments.records import SourceRecord
from evenhand.jobs.benchmark import generalization_page, probe_page, request
from evenhand.jobs.benchmark.comparing import CHOSEN, Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.jobs.benchmark.record import BenchmarkRecord
from evenhand.jobs.benchmark.verdicts import (
    ALLOWED,
    CHANGE,
    EXPLORATORY,
    FEW_SEEDS,
    Kind,
    change_text,
)
from evenhand.metrics.recipes import (
    RATES,
    Difference,
    is_auc_of_group,
    is_better,
    levelled_down,
)
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.reporting.charts.forest import Forest, Line, Look, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.page import section_page
from evenhand.reporting.part import Part, Table
from evenhand.reporting.part import PartAnswer as Answer
from evenhand.reporting.section import PART, section, sections_of
from evenhand.reporting.text.numbers import listed, plain
from evenhand.reporting.text.vocabulary import term
from evenhand.reporting.verdicts import Verdict
from evenhand.wording import counted

OTHER_SECTIONS = (
    generalization_page.external_part,
    request.request_part,
    probe_page.probe_part,
)
"""Sections of this page that other modules register."""


def page_of(outcome: Outcome) -> str:
    """Return the page as HTML."""
    run, result = outcome.run, outcome.result
    about = run.record.source or SourceRecord(reader="", path="")
    size = result.sizes[next(iter(result.sizes))]
    lede = (
        f"{about.path}: {about.label}. {size[0]:,} samples of {counted(size[1], about.unit)}, each "
        f"tested once, in {counted(outcome.record.plan.folds, 'fold')}, with "
        f"{counted(result.seeds, 'seed')}. All entries have the same patients, trials, learning "
        "rates, epochs and seeds, and the same start but where the start is the entry."
    )
    title = f"evenhand benchmark: {run.root.resolve().name}"
    return section_page(title, lede, sections_of("benchmark", outcome), run.record)


@section("benchmark", "answer", "Which of these helps?", place=10, template=PART)
def _answer(outcome: Outcome) -> Part:
    result = outcome.result
    answers = [
        _chip(kind, verdict, key, decides=key in result.primary)
        for kind, key, verdict in outcome.statements
        if kind != "decisions"
        and (verdict.claim or (key in result.primary and kind != "levelling"))
    ]
    sentences = [
        f"{ERM} is the full network, trained without a method; every entry is compared with it.",
        f"All differences from {ERM} are corrected together: without any true difference, at most "
        "one benchmark in twenty claims one. Intervals are corrected, too.",
    ]
    if result.seeds == 1:
        sentences.append(FEW_SEEDS)
    tables = (_at_a_glance(result),)
    return Part(answers=tuple(answers), sentences=tuple(sentences), tables=tables)


def _at_a_glance(result: Result) -> Table:
    """Return, of each entry, what it gains in the numbers that decide, and whom it costs most."""
    columns = ("Entry", *map(number_title, result.primary), "Group served worst, AUC",
               "Largest loss of a group, AUC", "In a word")  # fmt: skip
    rows = [_glance(result, name) for name in result.values if name != ERM]
    return Table("Each entry at a glance: change from erm", columns, tuple(rows))


def _glance(result: Result, name: str) -> tuple[str, ...]:
    by_key = {change.key: change for change in result.of_recipe(name)}
    groups = [
        change
        for change in by_key.values()
        if is_auc_of_group(change.key) and change.value is not None
    ]
    worst = [
        change for change in groups if result.worst.get(change.key.attribute) == change.key.group
    ]
    lowest = min(groups, key=lambda change: change.value or 0.0, default=None)
    decisive = [by_key.get(key) for key in result.primary]
    return (
        _shown(result, name),
        *("not compared" if change is None else change_text(change) for change in decisive),
        "; ".join(map(_group_change, worst)) or "not compared",
        _loss(lowest, worst),
        _word(result, name, decisive),
    )


def _is_worst(result: Result, key: Key) -> bool:
    return result.worst.get(key.attribute) == key.group


def _loss(lowest: Difference | None, worst: Sequence[Difference]) -> str:
    """Return the change of the group that loses most."""
    if lowest is None:
        return "not compared"
    if (lowest.value or 0.0) >= 0:
        return "none"
    return "the same group" if [lowest] == [*worst] else _group_change(lowest)


def _group_change(change: Difference) -> str:
    return f"{change.key.group}: {change_text(change)}"


def _word(result: Result, name: str, decisive: Sequence[Difference | None]) -> str:
    """Say whether an entry is shown to be better or worse in what decides, and levels down."""
    shown = {
        change.better for change in decisive if change is not None and result.is_planned(change)
    }
    word = "better" if True in shown else "worse" if False in shown else "not shown"
    attributes = {key.attribute for key in result.values[ERM]} - {EVERYBODY}
    own = result.of_recipe(name)
    rates = [change.value or 0.0 for change in own if change.key.base in RATES]
    if word == "better" and name in result.roles.apart and min(rates, default=0.0) < -ALLOWED:
        word = "better, at a price"
    down = any(
        levelled_down(own, attribute, result.worst.get(attribute)) for attribute in attributes
    )
    return f"{word}, levels down" if down else word


def number_title(key: Key) -> str:
    """Return what a number is called on the page.

    Examples
    --------
    >>> number_title(Key("age", "*", "auc", "worst"))
    'AUC of the worst group, age'
    """
    label = term(key.base, key.aggregate).label
    return label if key.attribute == EVERYBODY else f"{label}, {key.attribute}"


def _chip(kind: Kind, verdict: Verdict, key: Key | None = None, *, decides: bool = False) -> Answer:
    outcome, chip = ("better", "shown") if verdict.claim else ("unsure", "not shown")
    if kind == "levelling":
        outcome, chip = "worse", "levelled down"
    if EXPLORATORY in verdict.about:
        outcome, chip = "unsure", EXPLORATORY
    where = "" if verdict.attribute == EVERYBODY else f", {verdict.attribute}"
    topic = f"{verdict.about}{where}"
    if key is not None and kind == "number":
        topic = f"{number_title(key)}, against {ERM}"
    says = "This is the number that decides, as the plan says."
    details = (says,) if decides and kind == "number" else ()
    return Answer(topic, outcome, chip, verdict.text, details)


@section("benchmark", "decisions", "Entries that move decisions alone", place=40, template=PART)
def _decisions(outcome: Outcome) -> Part | None:
    """Return what is said of entries that move decisions alone; None where there are none."""
    result, statements = outcome.result, outcome.statements
    answers = [_chip(kind, verdict) for kind, _, verdict in statements if kind == "decisions"]
    if not answers:
        return None
    keys = [key for key in result.values[ERM] if key.base in RATES]
    rows = []
    for name in (name for name in result.values if name in result.roles.apart):
        by_key = {difference.key: difference for difference in result.of_recipe(name)}
        rows += [
            (name, f"{key.attribute}: {key.group}", key.base, change_text(by_key[key]))
            for key in keys
            if key in by_key
        ]
    table = Table("Rates of each group", ("Entry", "Group", "Rate", "Change"), tuple(rows))
    says = (
        "These entries change no network. They are judged by equalised odds, and no group's "
        f"sensitivity or specificity may fall by more than {plain(ALLOWED)}."
    )
    return Part(answers=tuple(answers), sentences=(says,), tables=(table,))


@section("benchmark", "differences", f"Each entry against {ERM}", place=20, template=PART)
def _differences(outcome: Outcome) -> Part:
    result = outcome.result
    across = [key for key in result.values[ERM] if key.group == EVERYBODY]
    order = sorted(across, key=lambda key: key not in result.primary)
    return Part(plots=tuple(_plot(result, key) for key in order))


def _plot(result: Result, key: Key) -> Forest:
    differences = [difference for difference in result.differences if difference.key == key]
    differences.sort(key=lambda difference: not result.is_planned(difference))
    side = "above" if is_better(key, 1.0) else "below"
    says = f"Change from {ERM}, mean over seeds, with its corrected interval; {side} 0 is better."
    look = Look(number_title(key), says, CHANGE, reference=0.0, reference_name=ERM)
    return forest([_line(result, difference) for difference in differences], look)


def _line(result: Result, difference: Difference) -> Line:
    n, patients, positives = result.sizes[difference.key]
    estimate = Estimate(
        base=difference.key.base,
        attribute=difference.key.attribute,
        value=difference.value,
        low=difference.low,
        high=difference.high,
        n=n,
        patients=patients,
        positives=positives,
        undefined=None if difference.value is not None else "a group lacks a class",
    )
    tag = {True: "better", False: "worse", None: ""}[difference.better]
    name = (
        difference.recipe
        if result.is_planned(difference)
        else f"{difference.recipe}, {EXPLORATORY}"
    )
    return Line(name, estimate, tag=tag)


@section("benchmark", "groups", "Gain and loss of each group", place=30, template=PART)
def _groups(outcome: Outcome) -> Part:
    result = outcome.result
    keys = [key for key in result.values[ERM] if is_auc_of_group(key)]
    names = [name for name in result.values if name not in (ERM, *result.roles.apart)]
    columns = ("Entry", *(f"{key.attribute}: {key.group}" for key in keys))
    rows = []
    for name in names:
        by_key = {difference.key: difference for difference in result.of_recipe(name)}
        rows.append((_shown(result, name), *(change_text(by_key[key]) for key in keys)))
    worst = [f"{level} of {attribute}" for attribute, level in result.worst.items()]
    said = f"{ERM} serves {listed(worst)} worst on validation patients. " if worst else ""
    return Part(
        sentences=(f"{said}Changes of each group's AUC from {ERM}, with corrected intervals.",),
        tables=(Table("AUC of each group", columns, tuple(rows)),),
    )


@section("benchmark", "entries", "Every entry", place=80, template=PART)
def _values(outcome: Outcome) -> Part:
    result = outcome.result
    keys = [key for key in result.values[ERM] if key.group == EVERYBODY]
    columns = ("Entry", *map(number_title, keys))
    rows = []
    for name, values in result.values.items():
        means = (float(values[key][:, 0].mean()) for key in keys)
        rows.append(
            (
                _shown(result, name),
                *("undefined" if mean != mean else plain(mean) for mean in means),
            )
        )
    return Part(tables=(Table("Mean over seeds", columns, tuple(rows)),))


def _shown(result: Result, name: str) -> str:
    return f"{name}, {EXPLORATORY}" if name in result.roles.added else name


@section("benchmark", "terms", "Equal terms", place=90, template=PART)
def _terms(outcome: Outcome) -> Part:
    """Say what differs between the entries and erm; all else is the same."""
    settings, record = outcome.settings, outcome.record
    rows = [
        (entry.name, entry.apart(settings)) for entry in record.all_entries if entry.name != ERM
    ]
    says = (
        f"{ERM} changes the full network from {settings.weights}, without a method. "
        f"Every trained entry has {counted(settings.trials, 'trial')} between learning rates "
        f"{settings.lr_min:g} and {settings.lr_max:g}, {counted(settings.epochs, 'epoch')} at "
        f"most, and {settings.target[0]} on the same validation patients, which chooses."
    )
    table = Table("What differs", ("Entry", f"How it differs from {ERM}"), tuple(rows))
    return Part(sentences=(says,), tables=(table,))


@section(
    "benchmark", "selection", "What choosing on validation patients gives", place=100, template=PART
)
def _selection(outcome: Outcome) -> Part | None:
    selection = outcome.result.selection
    if selection is None:
        return None
    picks = listed([f"{name} {count}" for name, count in selection.picks.items()])
    return Part(
        sentences=(
            "In each fold and for each seed, the trained entry with the best target on validation "
            f"patients was chosen: {picks}. Together these are “{CHOSEN}”.",
            f"Its number that decides is {plain(selection.value)} on test patients; the best entry "
            f"there, {selection.best}, has {plain(selection.best_value)}. So the choice cost "
            f"{plain(selection.regret)}, at most: the best of several looks better than it is.",
            f"In {selection.other_winner:.0%} of resamples of patients and seeds, an entry other "
            "than the best one here is the best; on all patients, for "
            f"{selection.other_by_seed:.0%} of the seeds.",
        )
    )


@section("benchmark", "plan", "The plan", place=110, template=PART)
def _plan(outcome: Outcome) -> Part:
    record = outcome.record
    entries = listed([entry.name for entry in record.plan.entries])
    added = listed([entry.name for entry in record.added])
    return Part(
        sentences=(
            f"Written before any test patient was scored, with the hash {record.hash[:16]}: "
            f"entries {entries}; the number that decides, {record.plan.primary}, of "
            f"{_decisive(record)}; the test: {record.plan.test}.",
            *([f"Added later, and so exploratory: {added}."] if record.added else []),
        )
    )


def _decisive(record: BenchmarkRecord) -> str:
    """Say whose numbers the plan tests."""
    if record.plan.decides == "chosen":
        return "what is chosen on validation, while all else is exploratory"
    return "every entry"
