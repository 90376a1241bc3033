"""The page of a benchmark, which opens with the number that decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run
from evenhand.jobs.benchmark.comparing import CHOSEN, Result, Selection
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.record import BenchmarkRecord
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import (
    ALLOWED,
    CHANGE,
    EXPLORATORY,
    FEW_SEEDS,
    Kind,
    Statement,
    change_text,
    number_name,
)
from evenhand.metrics.recipes import RATES, Difference, is_auc_of_group
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.reporting.charts.forest import Forest, Line, Look, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.page import section_page
from evenhand.reporting.section import Section
from evenhand.reporting.sections.assessment import Part, Table, part_section
from evenhand.reporting.sections.assessment import Verdict as Answer
from evenhand.reporting.text.numbers import listed, plain
from evenhand.reporting.verdicts import Verdict
from evenhand.wording import counted


def page_of(
    run: Run,
    result: Result,
    record: BenchmarkRecord,
    statements: Sequence[Statement],
    more: Sequence[Section] = (),
) -> str:
    """Return the page as HTML, with more sections before what explains the terms."""
    about = run.record.source or SourceRecord(reader="", path="")
    size = result.sizes[next(iter(result.sizes))]
    lede = (
        f"{about.path}: {about.label}. {size[0]:,} samples of {counted(size[1], about.unit)}, each "
        f"tested once, in {counted(record.plan.folds, 'fold')}, with "
        f"{counted(result.seeds, 'seed')}. All entries have the same patients, trials, learning "
        "rates, epochs and seeds, and the same start but where the start is the entry."
    )
    sections = (
        part_section("answer", "Which of these helps?", _answer(result, statements)),
        part_section("differences", f"Each entry against {ERM}", _differences(result)),
        part_section("groups", "Gain and loss of each group", _groups(result)),
        *_decisions(result, statements),
        *more,
        part_section("entries", "Every entry", _values(result)),
        part_section("terms", "Equal terms", _terms(run, record)),
        *_selection(result.selection),
        part_section("plan", "The plan", _plan(record)),
    )
    return section_page(
        f"evenhand benchmark: {run.root.resolve().name}", lede, sections, run.record
    )


def _answer(result: Result, statements: Sequence[Statement]) -> Part:
    answers = [
        _chip(kind, verdict, decides=key in result.primary)
        for kind, key, verdict in statements
        if kind != "decisions"
        and (verdict.claim or (key in result.primary and kind != "levelling"))
    ]
    sentences = [
        f"All differences from {ERM} are corrected together: without any true difference, at most "
        "one benchmark in twenty claims one. Intervals are corrected, too."
    ]
    if result.seeds == 1:
        sentences.append(FEW_SEEDS)
    return Part(answers=tuple(answers), sentences=tuple(sentences))


def _chip(kind: Kind, one: Verdict, *, decides: bool = False) -> Answer:
    outcome, chip = ("better", "shown") if one.claim else ("unsure", "not shown")
    if kind == "levelling":
        outcome, chip = "worse", "levelled down"
    if EXPLORATORY in one.about:
        outcome, chip = "unsure", EXPLORATORY
    where = "" if one.attribute == EVERYBODY else f", {one.attribute}"
    says = "This is the number that decides, as the plan says."
    details = (says,) if decides and kind == "number" else ()
    return Answer(f"{one.about}{where}", outcome, chip, one.text, details)


def _decisions(result: Result, statements: Sequence[Statement]) -> Iterator[Section]:
    """Yield the section of entries that move decisions alone, where there are some."""
    answers = [_chip(kind, verdict) for kind, _, verdict in statements if kind == "decisions"]
    if not answers:
        return
    keys = [key for key in result.values[ERM] if key.base in RATES]
    rows = []
    for name in (name for name in result.values if name in result.roles.apart):
        of = {one.key: one for one in result.of_recipe(name)}
        rows += [
            (name, f"{key.attribute}: {key.group}", key.base, change_text(of[key]))
            for key in keys
            if key in of
        ]
    table = Table("Rates of each group", ("Entry", "Group", "Rate", "Change"), tuple(rows))
    says = (
        "These entries change no network. They are judged by equalised odds, and no group's "
        f"sensitivity or specificity may fall by more than {plain(ALLOWED)}."
    )
    part = Part(answers=tuple(answers), sentences=(says,), tables=(table,))
    yield part_section("decisions", "Entries that move decisions alone", part)


def _differences(result: Result) -> Part:
    across = [key for key in result.values[ERM] if key.group == EVERYBODY]
    order = sorted(across, key=lambda key: key not in result.primary)
    return Part(plots=tuple(_plot(result, key) for key in order))


def _plot(result: Result, key: Key) -> Forest:
    of = [one for one in result.differences if one.key == key]
    of.sort(key=lambda one: not result.is_planned(one))
    where = "" if key.attribute == EVERYBODY else f", {key.attribute}"
    says = f"Change from {ERM}, mean over seeds, with its corrected interval."
    look = Look(f"{number_name(key)}{where}", says, CHANGE, reference=0.0, reference_name=ERM)
    return forest([_line(result, one) for one in of], look)


def _line(result: Result, one: Difference) -> Line:
    n, patients, positives = result.sizes[one.key]
    estimate = Estimate(
        base=one.key.base,
        attribute=one.key.attribute,
        value=one.value,
        low=one.low,
        high=one.high,
        n=n,
        patients=patients,
        positives=positives,
        undefined=None if one.value is not None else "a group lacks a class",
    )
    tag = {True: "better", False: "worse", None: ""}[one.better]
    name = one.recipe if result.is_planned(one) else f"{one.recipe}, {EXPLORATORY}"
    return Line(name, estimate, tag=tag)


def _groups(result: Result) -> Part:
    keys = [key for key in result.values[ERM] if is_auc_of_group(key)]
    names = [name for name in result.values if name not in (ERM, *result.roles.apart)]
    columns = ("Entry", *(f"{key.attribute}: {key.group}" for key in keys))
    rows = []
    for name in names:
        of = {one.key: one for one in result.of_recipe(name)}
        rows.append((_shown(result, name), *(change_text(of[key]) for key in keys)))
    worst = [f"{level} of {attribute}" for attribute, level in result.worst.items()]
    said = f"{ERM} serves {listed(worst)} worst on validation patients. " if worst else ""
    return Part(
        sentences=(f"{said}Changes of each group's AUC from {ERM}, with corrected intervals.",),
        tables=(Table("AUC of each group", columns, tuple(rows)),),
    )


def _values(result: Result) -> Part:
    keys = [key for key in result.values[ERM] if key.group == EVERYBODY]
    columns = ("Entry", *(_column(key) for key in keys))
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


def _terms(run: Run, record: BenchmarkRecord) -> Part:
    """Say what differs between the entries and erm; all else is the same."""
    settings = run.record.settings_as(BenchmarkSettings)
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


def _column(key: Key) -> str:
    name = number_name(key)
    return name if key.attribute == EVERYBODY else f"{name}, {key.attribute}"


def _selection(selection: Selection | None) -> Iterator[Section]:
    if selection is None:
        return
    picks = listed([f"{name} {count}" for name, count in selection.picks.items()])
    part = Part(
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
    yield part_section("selection", "What choosing on validation patients gives", part)


def _plan(record: BenchmarkRecord) -> Part:
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
