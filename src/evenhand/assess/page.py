"""The report of an assessment, which opens with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evenhand.assess.evaluation import Evaluation, Value
from evenhand.assess.evidence import evidence, text_of
from evenhand.assess.settings import SUPERVISED
from evenhand.files import read_json
from evenhand.report.assessment import Part, Table, Verdict, part_section
from evenhand.report.numbers import Scale
from evenhand.report.requirements import requirement_sections
from evenhand.report.sections import Section, section_page
from evenhand.report.similarity import similarity_sections
from evenhand.runs import Run

Record = dict[str, Any]

FEWEST = 30  # patients of the rarer class in a group's test rows; fewer are called too few


def page_of(run: Run, found: Sequence[Evaluation], required: Record, alike: Record) -> str:
    """Return the report of an assessment as HTML, from what stages 5, 1 and 4 have found."""
    whole = found[0]
    facts = {name: fact for name, fact in run.facts.items() if name != "answer"}
    source = facts["source"]
    answer = Part(verdicts(whole), tuple(_remarks(whole, facts)))
    sections = (
        part_section("answer", "Did self-supervision make this fairer?", answer),
        *_numbered(1, requirement_sections(required)),
        part_section("pretraining", "2. Pre-training", _pretraining(run, facts["settings"])),
        part_section("tuning", "3. Fine-tuning", _tuning(found)),
        *_numbered(4, similarity_sections(alike)),
        part_section("evaluation", "5. Evaluation", evidence(whole)),
    )
    lede = (
        f"{source['path']}: {source['label']}. {whole.sizes['*', '*'].n:,} test samples, "
        f"scored once by each model; intervals (95 %) resample {source['unit']}s."
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
    deviation = [found.deviation(name, attribute).value for name in (SUPERVISED, cell)]
    if None in deviation or less.value is None:
        headline = "Deviation from parity is undefined: some group lacks a class or a decision."
        return Verdict(attribute, "unsure", "undefined", headline, (_cost(found, cell),))
    way = "less" if less.value >= 0 else "more"
    headline = (
        f"{_headline(fairer)}: deviation from parity {deviation[0]:.3f} supervised, "
        f"{deviation[1]:.3f} with self-supervision ({cell}), {abs(less.value):.0%} {way}"
        f"{_reduced(less)}."
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
        f"AUC {text_of(both[0])} with self-supervision, {text_of(both[1])} supervised: a change of "
        f"{text_of(change, sign=True)}."
    )


def _groups(found: Evaluation, attribute: str) -> str:
    """Say for which groups the change in AUC is certain."""
    changes = {key[1]: v for key, v in found.by_group(found.chosen).items() if key[0] == attribute}
    certain = [f"{level} ({text_of(v, sign=True)})" for level, v in changes.items() if v.sign]
    listed = "; ".join(f"{level} {text_of(value, sign=True)}" for level, value in changes.items())
    if certain:
        return f"The change in AUC is certain for {', '.join(certain)}; all groups: {listed}."
    return f"For no group is the change in AUC certain: {listed}."


def _reduced(less: Value) -> str:
    ends = Scale(100.0, 0, "%").interval(less.low, less.high)
    return (
        f" (a reduction of {ends})"
        if ends
        else " (without an interval, as that of supervised may be 0)"
    )


def _remarks(found: Evaluation, facts: Mapping[str, Any]) -> Iterator[str]:
    objective = facts["settings"]["objective"][0]
    yield (
        f"{found.chosen} stands for self-supervision, as it has the best {objective} on validation "
        "patients of all cells; the test patients took no part in that choice. Deviation from "
        "parity is the mean of |1 − ratio| over six ratios (share flagged, error, false discovery, "
        "false negative, false omission and false positive rate) of each group to the largest "
        "one, at thresholds from validation."
    )
    for attribute in found.judged[SUPERVISED].deviation:
        small = [
            level
            for (name, level), size in found.sizes.items()
            if name == attribute and level != "*" and size.rarer < FEWEST
        ]
        if small:
            yield (
                f"{attribute}: fewer than {FEWEST} test samples of the rarer class in "
                f"{', '.join(small)}. What is said of these groups rests on few people."
            )
    for group in facts["settings"]["exclude_group"]:
        yield f"Group {group}: no part in the comparison, as it was asked for."
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
            f"A tenth of them was held out: pre-training ends after {patience} epochs without a "
            "lower loss on it, and keeps the weights of the lowest."
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
                text_of(Value.of(judged.auc)),
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
