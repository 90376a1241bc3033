"""The report of an assessment, which opens with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run
from evenhand.jobs.assess.answers import about_seeds, answers
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.evidence import evidence, text_of
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.networks.checkpoints import read_model_record
from evenhand.reporting.page import section_page
from evenhand.reporting.section import Section, sections_of
from evenhand.reporting.sections.assessment import Part, Table, part_section
from evenhand.wording import counted

Record = dict[str, Any]

FEWEST = 30  # patients of the rarer class in a group's test rows; fewer are called too few


def page_of(run: Run, evaluations: Sequence[Evaluation], required: Record, alike: Record) -> str:
    """Return the report of an assessment as HTML, from what stages 5, 1 and 4 have found."""
    whole = evaluations[0]
    record = run.record
    settings = record.settings_as(AssessSettings)
    source = record.source or SourceRecord(reader="", path="")
    remarks = _remarks(whole, settings, record.notes)
    answer = Part(tuple(one.verdict for one in answers(whole)), tuple(remarks))
    sections = (
        part_section("answer", "Did self-supervision make this fairer?", answer),
        *_numbered(1, sections_of("check", required)),
        part_section("pretraining", "2. Pre-training", _pretraining(run, settings)),
        part_section("tuning", "3. Fine-tuning", _tuning(evaluations, settings.weights)),
        *_numbered(4, sections_of("similarity", alike)),
        part_section("evaluation", "5. Evaluation", evidence(whole)),
    )
    lede = (
        f"{source.path}: {source.label}. {whole.sizes['*', '*'].n:,} test samples, "
        f"scored once by each model; intervals (95 %) are over {source.unit}s"
        f"{', those of differences between cells also over seeds' if whole.seeds > 1 else ''}."
    )
    return section_page(f"evenhand assess: {run.root.resolve().name}", lede, sections, record)


def _numbered(stage: int, sections: Sequence[Section]) -> tuple[Section, ...]:
    first, *rest = sections
    return (replace(first, title=f"{stage}. {first.title}"), *rest)


def _remarks(
    evaluation: Evaluation, settings: AssessSettings, notes: Sequence[str]
) -> Iterator[str]:
    target = settings.target[0]
    yield about_seeds(evaluation)
    yield (
        f"{evaluation.chosen} stands for self-supervision, as it has the best {target} on "
        "validation patients of all cells; "
        "the test patients took no part in that choice. Deviation from "
        "parity is the mean of |1 − ratio| over six ratios (share flagged, error, false discovery, "
        "false negative, false omission and false positive rate) of each group to the largest "
        "one, at thresholds from validation."
    )
    for attribute in evaluation.judged[SUPERVISED].deviation:
        small = [
            level
            for (name, level), size in evaluation.sizes.items()
            if name == attribute and level != "*" and size.rarer < FEWEST
        ]
        if small:
            yield (
                f"{attribute}: fewer than {FEWEST} test samples of the rarer class in "
                f"{', '.join(small)}. What is said of these groups rests on few people."
            )
    for group in settings.exclude_group:
        yield f"Group {group}: no part in the comparison, as it was asked for."
    yield from notes


def _pretraining(run: Run, settings: AssessSettings) -> Part:
    rows = []
    for folder in sorted((run.root / "encoders").iterdir()):
        about = read_model_record(folder)
        losses, kept = about.losses, about.epoch or len(about.losses)
        ends = (f"{losses[0]:.3f}", f"{losses[kept - 1]:.3f}")
        rows.append((folder.name, str(len(losses)), str(kept), *ends))
    sentences = [
        f"{settings.ssl} on training patients, without their labels; validation and test "
        "patients took no part."
    ]
    if patience := settings.pretrain_patience:
        sentences.append(
            "A tenth of them was held out: pre-training ends after "
            f"{counted(patience, 'epoch')} without a lower loss on it, and keeps the weights of "
            "the lowest."
        )
    title = "Loss on the training patients held out" if patience else "Loss"
    columns = ("Encoder", "Epochs", "Kept", "Loss of the first", "Of the one kept")
    return Part(sentences=tuple(sentences), tables=(Table(title, columns, tuple(rows)),))


def _tuning(evaluations: Sequence[Evaluation], weights: str) -> Part:
    tables = []
    for evaluation in evaluations:
        rows = [
            (
                cell,
                f"{evaluation.parameters[cell]:,}",
                text_of(Value.of(judged.auc)),
                ", ".join(f"{value:.3f}" for value in evaluation.by_seed(cell)),
            )
            for cell, judged in evaluation.judged.items()
        ]
        title = f"Cells, labels of {evaluation.share:.0%} of the training patients"
        tables.append(Table(title, ("Cell", "Tuned", "AUC", "By seed"), tuple(rows)))
    return Part(
        sentences=(
            "All cells have one recipe, one head and one scale of their inputs. Supervised starts "
            f"from the weights that pre-training starts from ({_started(weights)}), and tunes "
            "everything. So frozen0 differs from it only in pre-training; the other cells also "
            "keep some layers frozen.",
        ),
        tables=tuple(tables),
    )


def _started(weights: str) -> str:
    """Return in words which weights ``--weights`` names."""
    return {"none": "random ones of the same seed", "pretrained": "timm's"}.get(weights, weights)
