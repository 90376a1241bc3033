"""The report of a benchmark, which begins with the primary number."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.errors import count_text
from evenhand.experiments.records import SourceRecord
from evenhand.jobs.benchmark import other_data_sets, request
from evenhand.jobs.benchmark.comparing import CHOSEN, Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.jobs.benchmark.record import BenchmarkRecord
from evenhand.jobs.benchmark.verdicts import (
    ALLOWED,
    EXPLORATORY,
    FEW_SEEDS,
    Statement,
    change_text,
)
from evenhand.metrics.recipes import RATES, Difference, is_auc_of_group, is_better, levelled_down
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.page import section_page
from evenhand.reporting.section import PART, AnswerBox, Part, Table, section, sections_of
from evenhand.reporting.sections.probe import probe_estimate
from evenhand.reporting.text.vocabulary import PLAIN, SIGNED, join_words, plain, term

DECISIONS_ONLY = "not compared: it changes only decisions"
OTHER_SECTIONS = (other_data_sets.external_part, request.request_part)
"""Sections of this page that other modules register when they are imported."""


def benchmark_page(outcome: Outcome) -> str:
    """Return the report of a benchmark as HTML."""
    run, result = outcome.run, outcome.result
    source = run.record.source or SourceRecord(reader="", path="")
    size = result.sizes[next(iter(result.sizes))]
    introduction = (
        f"{source.path}: {source.label}. {size.samples:,} samples of "
        f"{count_text(size.patients, source.unit)}, each tested once, in "
        f"{count_text(outcome.record.plan.folds, 'fold')}, with "
        f"{count_text(result.seeds, 'seed')}. All entries have the same patients, trials, learning "
        "rates, epochs and seeds. They have the same starting weights, except for "
        "entries that change them."
    )
    title = f"evenhand benchmark: {run.root.resolve().name}"
    return section_page(title, introduction, sections_of("benchmark", outcome), run.record)


@section("benchmark", "answer", "Which of these helps?", place=10, template=PART)
def _answer(outcome: Outcome) -> Part:
    result = outcome.result
    answers = [
        _answer_chip(statement, is_primary=statement.key in result.primary)
        for statement in outcome.statements
        if statement.kind != "decisions"
        and (statement.verdict.claim or statement.key in result.primary)
    ]
    sentences = [
        f"{ERM} is the whole network, trained without a method; every entry is compared with it.",
        f"All differences from {ERM} are corrected together: without any true difference, at most "
        "one benchmark in twenty claims one. Intervals are corrected, too, but not step by step, "
        "as p-values are: a difference can be shown although its interval contains 0.",
    ]
    if result.seeds == 1:
        sentences.append(FEW_SEEDS)
    tables = (_overview_table(result),)
    return Part(answers=tuple(answers), sentences=tuple(sentences), tables=tables)


def _overview_table(result: Result) -> Table:
    """Return a row for each entry: changes of the primary numbers, and losses of groups."""
    columns = ("Entry", *map(number_title, result.primary), "Group served worst, AUC",
               "Largest loss of a group, AUC", "Outcome")  # fmt: skip
    rows = [_overview_row(result, name) for name in result.values if name != ERM]
    return Table("Each entry at a glance: change from erm", columns, tuple(rows))


def _overview_row(result: Result, name: str) -> tuple[str, ...]:
    by_key = result.by_key(name)
    groups = [
        change
        for change in by_key.values()
        if is_auc_of_group(change.key) and change.value is not None
    ]
    worst = [
        change for change in groups if result.worst.get(change.key.attribute) == change.key.group
    ]
    lowest = min(groups, key=lambda change: change.value or 0.0, default=None)
    primary = [by_key.get(key) for key in result.primary]
    return (
        _display_name(result, name),
        *(DECISIONS_ONLY if change is None else change_text(change) for change in primary),
        "; ".join(map(_group_change, worst)) or "not compared",
        _loss_text(lowest, worst),
        _outcome_text(result, name, primary),
    )


def _loss_text(lowest: Difference | None, worst: Sequence[Difference]) -> str:
    """Return the change of the group that loses the most, as text."""
    if lowest is None:
        return "not compared"
    if (lowest.value or 0.0) >= 0:
        return "none"
    return "the same group" if [lowest] == [*worst] else _group_change(lowest)


def _group_change(change: Difference) -> str:
    return f"{change.key.group}: {change_text(change)}"


def _outcome_text(result: Result, name: str, primary: Sequence[Difference | None]) -> str:
    """Return the outcome of an entry by the primary numbers: better, worse or not shown."""
    outcomes = {
        change.better for change in primary if change is not None and result.is_planned(change)
    }
    word = "better" if True in outcomes else "worse" if False in outcomes else "not shown"
    attributes = {key.attribute for key in result.values[ERM]} - {EVERYBODY}
    changes = result.of_recipe(name)
    rates = [change.value or 0.0 for change in changes if change.key.base in RATES]
    changes_decisions = name in result.roles.decision_entries
    if word == "better" and changes_decisions and min(rates, default=0.0) < -ALLOWED:
        word = "better, at a price"
    levels_down = any(
        levelled_down(changes, attribute, result.worst.get(attribute)) for attribute in attributes
    )
    return f"{word}, levels down" if levels_down else word


def number_title(key: Key) -> str:
    """Return the title of a number on the page.

    Examples
    --------
    >>> number_title(Key("age", "*", "auc", "worst"))
    'AUC of the worst group, age'
    """
    label = term(key.base, key.aggregate).label
    return label if key.attribute == EVERYBODY else f"{label}, {key.attribute}"


def _answer_chip(statement: Statement, *, is_primary: bool = False) -> AnswerBox:
    verdict = statement.verdict
    outcome, chip = ("better", "shown") if verdict.claim else ("unsure", "not shown")
    if statement.kind == "levelling":
        outcome, chip = "worse", "levelled down"
    if statement.exploratory:
        outcome, chip = "unsure", EXPLORATORY
    attribute = "" if verdict.attribute == EVERYBODY else f", {verdict.attribute}"
    topic = f"{verdict.about}{attribute}"
    details: tuple[str, ...] = ()
    if statement.kind == "number" and statement.key is not None and not statement.exploratory:
        topic = f"{number_title(statement.key)}, against {ERM}"
        details = ("This is the primary number of the plan.",) if is_primary else ()
    return AnswerBox(topic, outcome, chip, verdict.text, details)


@section("benchmark", "decisions", "Entries that change only decisions", place=40, template=PART)
def _decisions(outcome: Outcome) -> Part | None:
    """Return the section about entries that change only decisions; None if there are none."""
    result = outcome.result
    answers = [
        _answer_chip(statement) for statement in outcome.statements if statement.kind == "decisions"
    ]
    if not answers:
        return None
    keys = [key for key in result.values[ERM] if key.base in RATES]
    rows = []
    for name in (name for name in result.values if name in result.roles.decision_entries):
        by_key = result.by_key(name)
        rows += [
            (name, f"{key.attribute}: {key.group}", key.base, change_text(by_key[key]))
            for key in keys
            if key in by_key
        ]
    table = Table("Rates of each group", ("Entry", "Group", "Rate", "Change"), tuple(rows))
    sentence = (
        "These entries do not change the network. They are judged by equalised odds, and no "
        f"group's sensitivity or specificity may fall by more than {plain(ALLOWED)}."
    )
    return Part(answers=tuple(answers), sentences=(sentence,), tables=(table,))


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
    caption = (
        f"Change from {ERM}, mean over seeds, with its corrected interval; {side} 0 is better."
    )
    frame = ForestFrame(number_title(key), caption, SIGNED, reference=0.0, reference_name=ERM)
    return forest([_entry(result, difference) for difference in differences], frame)


def _entry(result: Result, difference: Difference) -> ForestEntry:
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
    suffix = "" if result.is_planned(difference) else f", {EXPLORATORY}"
    return ForestEntry(f"{difference.recipe}{suffix}", estimate, tag=tag)


@section("benchmark", "groups", "Gain and loss of each group", place=30, template=PART)
def _groups(outcome: Outcome) -> Part:
    result = outcome.result
    keys = [key for key in result.values[ERM] if is_auc_of_group(key)]
    names = [name for name in result.values if name not in (ERM, *result.roles.decision_entries)]
    columns = ("Entry", *(f"{key.attribute}: {key.group}" for key in keys))
    rows = []
    for name in names:
        by_key = result.by_key(name)
        rows.append((_display_name(result, name), *(change_text(by_key[key]) for key in keys)))
    worst = [f"{level} of {attribute}" for attribute, level in result.worst.items()]
    worst_text = f"{ERM} serves {join_words(worst)} worst on validation patients. " if worst else ""
    return Part(
        sentences=(
            f"{worst_text}Changes of each group's AUC from {ERM}, with corrected intervals.",
        ),
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
        texts = ("undefined" if mean != mean else plain(mean) for mean in means)
        rows.append((_display_name(result, name), *texts))
    return Part(tables=(Table("Mean over seeds", columns, tuple(rows)),))


def _display_name(result: Result, name: str) -> str:
    return f"{name}, {EXPLORATORY}" if name in result.roles.added else name


@section("benchmark", "terms", "Equal terms", place=90, template=PART)
def _terms(outcome: Outcome) -> Part:
    """Return the section about the only difference of each entry from erm."""
    settings, record = outcome.settings, outcome.record
    rows = [
        (entry.name, entry.difference_text(settings))
        for entry in record.all_entries
        if entry.name != ERM
    ]
    sentence = (
        f"{ERM} tunes the whole network from {settings.weights}, without a method. "
        f"Every trained entry has {count_text(settings.trials, 'trial')} between learning rates "
        f"{settings.lr_min:g} and {settings.lr_max:g}, {count_text(settings.epochs, 'epoch')} at "
        f"most, and is chosen by {settings.target[0]} on the same validation patients."
    )
    table = Table("What differs", ("Entry", f"How it differs from {ERM}"), tuple(rows))
    return Part(sentences=(sentence,), tables=(table,))


@section(
    "benchmark", "selection", "What choosing on validation patients gives", place=100, template=PART
)
def _selection(outcome: Outcome) -> Part | None:
    selection = outcome.result.selection
    if selection is None:
        return None
    picks = join_words([f"{name} {count}" for name, count in selection.picks.items()])
    return Part(
        sentences=(
            "In each fold and for each seed, the trained entry with the best target on validation "
            f"patients was chosen: {picks}. Together these are “{CHOSEN}”.",
            f"Their primary number is {plain(selection.value)} on test patients; the best entry on "
            f"test patients, {selection.best}, has {plain(selection.best_value)}. The choice cost "
            f"at most {plain(selection.regret)}, as the best of several looks better than it is.",
            f"In {selection.other_winner:.0%} of resamples of patients and seeds, another entry "
            f"than {selection.best} is the best; on all patients, for "
            f"{selection.other_by_seed:.0%} of the seeds.",
        )
    )


@section("benchmark", "plan", "The plan", place=110, template=PART)
def _plan(outcome: Outcome) -> Part:
    record = outcome.record
    entries = join_words([entry.name for entry in record.plan.entries])
    added = join_words([entry.name for entry in record.added])
    return Part(
        sentences=(
            f"Written before any test patient was scored, with the hash {record.hash[:16]}: "
            f"entries {entries}; primary number {record.plan.primary}, of {_tested_text(record)}; "
            f"test: {record.plan.test}.",
            *([f"Added later, and therefore exploratory: {added}."] if record.added else []),
        )
    )


def _tested_text(record: BenchmarkRecord) -> str:
    """Return a text about the entries that the plan tests."""
    if record.plan.decides == "chosen":
        return "the entry chosen on validation, while all other results are exploratory"
    return "every entry"


PAIRED = "Paired by patient and seed; below 0, the network reveals less about the attribute."


@section("benchmark", "probe", "What the networks reveal", place=45, template=PART)
def probe_part(outcome: Outcome) -> Part | None:
    """Return the section about probes; None without ``--probe``."""
    rows = outcome.record.probes
    if not rows:
        return None
    count = f"{max(row.patients for row in rows):,}"
    sentence = (
        "A linear probe predicts the attribute from the inputs of the last layer of each network, "
        f"for {count} test patients with one sample each; in each fold it is trained on other "
        "patients than those that it scores. Its AUC is over pairs of samples with the same label, "
        "as mean over folds and seeds; 0.5 is chance. A network that reveals less about the "
        "attribute is not necessarily fairer: see the differences of the entries. Intervals are "
        "not corrected, and no claim rests on them."
    )
    plots = []
    for attribute in dict.fromkeys(row.attribute for row in rows):
        values = [row for row in rows if row.attribute == attribute and row.against is None]
        changes = [row for row in rows if row.attribute == attribute and row.against is not None]
        frame = ForestFrame(attribute, "AUC of the probe.", PLAIN, 0.5, "chance")
        plots.append(forest([ForestEntry(row.model, probe_estimate(row)) for row in values], frame))
        if changes:
            frame = ForestFrame(f"{attribute}: change from {ERM}", PAIRED, SIGNED, 0.0, ERM)
            plots.append(
                forest([ForestEntry(row.model, probe_estimate(row)) for row in changes], frame)
            )
    return Part(sentences=(sentence,), plots=tuple(plots))
