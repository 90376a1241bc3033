"""The report of an assessment, which opens with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from evenhand.assess.evaluation import Evaluation, Value
from evenhand.assess.settings import SUPERVISED
from evenhand.cohort.cohort import counts
from evenhand.files import read_json
from evenhand.finetune.training import Task
from evenhand.measure.registry import Floats
from evenhand.report.assessment import Part, Table, Verdict, part_section
from evenhand.report.estimates import Estimate
from evenhand.report.forest import Forest, Line, Look, forest
from evenhand.report.requirements import requirement_sections
from evenhand.report.sections import Section, section_page
from evenhand.report.similarity import similarity_sections
from evenhand.runs import Run

Record = dict[str, Any]

FEWEST = 30  # patients of the rarer class in a group's test rows; fewer are called too few


def page_of(
    run: Run, task: Task, found: Sequence[Evaluation], others: tuple[Record, Record]
) -> str:
    """Return the report of an assessment as HTML; the others are stages 1 and 4."""
    whole = found[0]
    facts = {name: fact for name, fact in run.facts.items() if name != "answer"}
    source, (required, alike) = facts["source"], others
    answer = Part(verdicts(whole), tuple(_remarks(task, whole, facts)))
    sections = (
        part_section("answer", "Did self-supervision make this fairer?", answer),
        *_numbered(1, requirement_sections(required)),
        part_section("pretraining", "2. Pre-training", _pretraining(run, facts["settings"])),
        part_section("tuning", "3. Fine-tuning", _tuning(found)),
        *_numbered(4, similarity_sections(alike)),
        part_section("evaluation", "5. Evaluation", _evidence(whole)),
    )
    lede = (
        f"{source['path']}: {source['label']}. {len(task.splits.test)} test samples, scored once "
        f"by each model; intervals (95 %) resample {source['unit']}s."
    )
    return section_page(f"evenhand assess: {run.root.resolve().name}", lede, sections, facts)


def _numbered(stage: int, sections: Sequence[Section]) -> tuple[Section, ...]:
    first, *rest = sections
    return (replace(first, title=f"{stage}. {first.title}"), *rest)


def verdicts(found: Evaluation) -> tuple[Verdict, ...]:
    """Return the answer for each attribute."""
    return tuple(_verdict(found, attribute) for attribute in found.judged[SUPERVISED].deviation)


def sentences(found: Evaluation) -> list[str]:
    """Return the answer as lines of text."""
    return [" ".join((f"{one.topic}: {one.headline}", *one.details)) for one in verdicts(found)]


def _verdict(found: Evaluation, attribute: str) -> Verdict:
    cell = found.chosen
    if not found.claims(cell):
        return Verdict(
            attribute,
            "unsure",
            "no claim",
            "No claim about fairness: an AUC's interval does not lie above .5.",
            (_cost(found, cell),),
        )
    fairer, less = found.fairer(cell, attribute), found.reduction(cell, attribute)
    outcome, chip = {
        -1: ("better", "fairer"),
        0: ("unsure", "not certain"),
        1: ("worse", "less fair"),
    }[fairer.sign]
    deviation = [
        Value.of(found.judged[name].deviation[attribute]).value for name in (SUPERVISED, cell)
    ]
    if None in deviation or less.value is None:
        headline = "Deviation from parity is undefined: some group lacks a class or a decision."
        return Verdict(attribute, "unsure", "undefined", headline, (_cost(found, cell),))
    way = "less" if less.value >= 0 else "more"
    headline = (
        f"{_headline(fairer)}: deviation from parity {deviation[0]:.3f} supervised, "
        f"{deviation[1]:.3f} with self-supervision ({cell}), {abs(less.value):.0%} {way}"
        f"{_interval_of(less, percent=True)}."
    )
    return Verdict(
        attribute, outcome, chip, headline, (_cost(found, cell), _groups(found, attribute))
    )


def _headline(difference: Value) -> str:
    if difference.low is None:
        return (
            "Not certain, the interval of the difference is undefined (in more than one resample "
            "of patients in 20 some group lacks a class or a decision)"
        )
    return {
        -1: "Yes, fairer",
        0: "Not certain, the interval of the difference holds 0",
        1: "No, less fair",
    }[difference.sign]


def _cost(found: Evaluation, cell: str) -> str:
    """Say what self-supervision does to the AUC of everybody."""
    change = found.difference(cell)
    both = [Value.of(found.judged[name].auc) for name in (cell, SUPERVISED)]
    return (
        f"AUC {_text(both[0])} with self-supervision, {_text(both[1])} supervised: a change of "
        f"{_text(change, sign=True)}."
    )


def _groups(found: Evaluation, attribute: str) -> str:
    """Say for which groups the change in AUC is certain."""
    changes = {key[1]: v for key, v in found.by_group(found.chosen).items() if key[0] == attribute}
    certain = [f"{level} ({_text(v, sign=True)})" for level, v in changes.items() if v.sign]
    listed = "; ".join(f"{level} {_text(value, sign=True)}" for level, value in changes.items())
    if certain:
        return f"The change in AUC is certain for {', '.join(certain)}; all groups: {listed}."
    return f"For no group is the change in AUC certain: {listed}."


def _remarks(task: Task, found: Evaluation, facts: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{found.chosen} stands for self-supervision, as it has the best "
        f"{task.objectives[0].name} on validation patients of all cells; the test patients took "
        "no part in that choice. Deviation from parity is the mean of |1 − ratio| over six ratios "
        "(share flagged, error, false discovery, false negative, false omission and false "
        "positive rate) of each group to the largest one, at thresholds from validation."
    )
    for attribute in task.settings.attribute:
        table = counts(task.splits.test, attribute)
        fewest = table[["positives"]].assign(rest=table["n"] - table["positives"]).min(axis=1)
        small = table["group"][(fewest < FEWEST) & (table["group"] != "unknown")]
        if len(small):
            yield (
                f"{attribute}: fewer than {FEWEST} test samples of the rarer class in "
                f"{', '.join(small)}. What is said of these groups rests on few people."
            )
    yield from facts.get("notes", ())


def _pretraining(run: Run, settings: Mapping[str, Any]) -> Part:
    rows = []
    for folder in sorted((run.root / "encoders").iterdir()):
        facts = read_json(folder / "model.json")
        losses, kept = facts["losses"], facts["epoch"]
        ends = (f"{losses[0]:.3f}", f"{losses[kept - 1]:.3f}")
        rows.append((folder.name, str(len(losses)), str(kept), *ends))
    sentences = [
        f"{settings['method']} on training patients, without their labels; validation and test "
        "patients took no part."
    ]
    if patience := settings["pretrain_patience"]:
        sentences.append(
            f"A tenth of them was held out: {patience} epochs without a lower loss on it ended "
            "pre-training, and the weights of the lowest were kept."
        )
    title = "Loss on the training patients held out" if patience else "Loss"
    columns = ("Encoder", "Epochs", "Kept", "Loss of the first", "Of the one kept")
    return Part(sentences=tuple(sentences), tables=(Table(title, columns, tuple(rows)),))


def _tuning(found: Sequence[Evaluation]) -> Part:
    tables = []
    for one in found:
        rows = [
            (
                cell,
                f"{one.parameters[cell]:,}",
                _text(Value.of(judged.auc)),
                ", ".join(f"{value:.3f}" for value in one.by_seed[cell]),
            )
            for cell, judged in one.judged.items()
        ]
        title = f"Cells, labels of {one.share:.0%} of the training patients"
        tables.append(Table(title, ("Cell", "Tuned", "AUC", "By seed"), tuple(rows)))
    return Part(
        sentences=(
            "All cells have one recipe and one head; supervised differs in starting from random "
            "weights, and nothing else.",
        ),
        tables=tuple(tables),
    )


def _evidence(found: Evaluation) -> Part:
    """Show every cell side by side, and the chosen one by group."""
    plots = [_plot(found, "AUC", {c: j.auc for c, j in found.judged.items()})]
    plots += [
        _plot(
            found,
            f"Deviation from parity, {attribute}",
            {c: j.deviation[attribute] for c, j in found.judged.items()},
        )
        for attribute in found.judged[SUPERVISED].deviation
    ]
    rows = [
        (
            f"{attribute}: {level}",
            *(_text(Value.of(found.judged[c].by_group[attribute, level])) for c in _pair(found)),
            _text(change, sign=True),
        )
        for (attribute, level), change in found.by_group(found.chosen).items()
    ]
    parity = [
        (
            cell,
            _text(found.difference(cell), sign=True),
            *(
                _text(found.fairer(cell, attribute), sign=True)
                for attribute in found.judged[cell].deviation
            ),
        )
        for cell in found.judged
        if cell != SUPERVISED
    ]
    attributes = tuple(found.judged[SUPERVISED].deviation)
    return Part(
        sentences=(
            "Lower deviation is fairer. Differences are paired: the same patients, both models.",
        ),
        plots=tuple(plots),
        tables=(
            Table("AUC by group", ("Group", *_pair(found), "Change"), tuple(rows)),
            Table(
                "Each cell less supervised",
                ("Cell", "AUC", *(f"Deviation, {name}" for name in attributes)),
                tuple(parity),
            ),
        ),
    )


def _pair(found: Evaluation) -> tuple[str, str]:
    return found.chosen, SUPERVISED


def _plot(found: Evaluation, title: str, values: Mapping[str, Floats]) -> Forest:
    lines = [
        Line(cell, _estimate(Value.of(of)), kind="everyone" if cell == SUPERVISED else "group")
        for cell, of in values.items()
    ]
    return forest(lines, Look(title, "Mean over seeds, interval over patients."))


def _estimate(value: Value) -> Estimate:
    return Estimate(
        *("", "test", "*", "*", ""),
        value=value.value,
        low=value.low,
        high=value.high,
        level=0.95,
        n=0,
        patients=0,
        positives=None,
        undefined=None if value.value is not None else "a ratio has no value",
    )


def _text(value: Value, *, sign: bool = False) -> str:
    if value.value is None or pd.isna(value.value):
        return "undefined"
    number = f"{value.value:+.3f}" if sign else f"{value.value:.3f}"
    return f"{number}{_interval_of(value)}"


def _interval_of(value: Value, *, percent: bool = False) -> str:
    if value.low is None or value.high is None:
        return ""
    form = "{:.0%} to {:.0%}" if percent else "{:.3f} to {:.3f}"
    return f" ({form.format(value.low, value.high)})"
