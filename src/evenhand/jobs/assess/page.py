"""The report of an assessment, which opens with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run
from evenhand.jobs.assess.answers import about_seeds, answers, judgements, pair_name
from evenhand.jobs.assess.claims import RecipeClaims
from evenhand.jobs.assess.compute import cost_sentence, cost_table
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.evidence import evidence, text_of
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.labels import label_part
from evenhand.jobs.assess.overview import LARGE, overview_part
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.jobs.assess.similarity_grid import read_grid
from evenhand.jobs.assess.similarity_view import grid_part
from evenhand.jobs.assess.starts import starts_of
from evenhand.jobs.assess.values import Value
from evenhand.networks.checkpoints import ModelRecord, read_model_record
from evenhand.pretraining.collapse import Embeddings
from evenhand.reporting.check_record import CheckRecord
from evenhand.reporting.page import section_page
from evenhand.reporting.part import Fold, Part, Table
from evenhand.reporting.section import PART, include_page, section, sections_of
from evenhand.reporting.similarity_record import SimilarityRecord
from evenhand.reporting.text.numbers import listed
from evenhand.wording import counted

FOLDED = 6  # pairs that show nothing; more of them are folded into one line
FEWEST = 30  # patients of the rarer class in a group's test rows; fewer are called too few


@dataclass(frozen=True, eq=False)
class Assessment:
    """What the page of an assessment is made of: its run, and the results of stages 5, 1 and 4."""

    run: Run
    every: Sequence[RecipeClaims]
    evaluations: Sequence[Evaluation]
    check: CheckRecord
    similarity: SimilarityRecord

    @property
    def whole(self) -> Evaluation:
        """The evaluation with all labels."""
        return self.evaluations[0]

    @cached_property
    def settings(self) -> AssessSettings:
        """The settings of the run."""
        return self.run.record.settings_as(AssessSettings)


def page_of(assessment: Assessment) -> str:
    """Return the report of an assessment as HTML."""
    whole, record = assessment.whole, assessment.run.record
    source = record.source or SourceRecord(reader="", path="")
    lede = (
        f"{source.path}: {source.label}. {whole.sizes['*', '*'].n:,} test samples, "
        f"scored once by each model; intervals (95 %) are over {source.unit}s"
        f"{', those of differences between cells also over seeds' if whole.seeds > 1 else ''}."
    )
    title = f"evenhand assess: {assessment.run.root.resolve().name}"
    return section_page(title, lede, sections_of("assess", assessment), record)


def _question(assessment: Assessment) -> str:
    subject = "pre-training" if assessment.whole.elsewhere else "self-supervision"
    return f"Did {subject} make this fairer?"


@section("assess", "answer", _question, place=10, template=PART)
def _answer(assessment: Assessment) -> Part:
    """Answer for the chosen cell against supervised; every other pair is in a fold of its own."""
    first, *others = assessment.every
    remarks = _remarks(assessment.every, assessment.settings, assessment.run.record.notes)
    return Part(
        tuple(answer.verdict for answer in answers(first)),
        tuple(remarks),
        folds=tuple(_pairs(others)),
    )


@section("assess", "overview", "The grid at a glance", place=15, template=PART)
def _overview(assessment: Assessment) -> Part | None:
    return overview_part(assessment.evaluations, assessment.every, assessment.settings)


include_page("assess", "check", attrgetter("check"), place=20, number="1.")


@section("assess", "pretraining", "2. Pre-training", place=30, template=PART)
def _pretraining_stage(assessment: Assessment) -> Part:
    return _pretraining(assessment.run, assessment.settings)


@section("assess", "tuning", "3. Fine-tuning", place=40, template=PART)
def _tuning_stage(assessment: Assessment) -> Part:
    return _tuning(assessment.run, assessment.evaluations, assessment.settings)


include_page(
    "assess", "similarity", lambda assessment: assessment.similarity, place=50, number="4."
)


@section("assess", "similarity-grid", "4. Similarity over the whole grid", place=55, template=PART)
def _grid_stage(assessment: Assessment) -> Part | None:
    grid = read_grid(assessment.run)  # runs of earlier versions lack it
    if grid is None:
        return None
    return grid_part(grid, assessment.whole, assessment.run.record.unit)


@section("assess", "evaluation", "5. Evaluation", place=60, template=PART)
def _evaluation_stage(assessment: Assessment) -> Part:
    return evidence(assessment.whole, assessment.settings)


@section("assess", "labels", "Fewer labels: performance and fairness", place=70, template=PART)
def _labels(assessment: Assessment) -> Part | None:
    if len(assessment.evaluations) < 2:
        return None
    return label_part(assessment.evaluations, assessment.every)


def _pairs(every: Sequence[RecipeClaims]) -> Iterator[Fold]:
    """Yield what is said of each pair; of many pairs, those that show nothing are in one fold."""
    alike = [claims for claims in every if not any(claim.sign for claim in claims.family)]
    together = alike if len(alike) > FOLDED else []
    yield from (_pair(claims) for claims in every if claims not in together)
    if together:
        line = f"{counted(len(together), 'other pair')}: nothing is told apart"
        yield Fold(line, Part(folds=tuple(map(_pair, together))))


def _pair(claims: RecipeClaims) -> Fold:
    """Return what is said of a pair of cells, under a line that names what is shown of it."""
    shown = [
        f"{judgement.topic} ({judgement.row.attribute})"
        for judgement in judgements(claims)
        if judgement.row.claim
    ]
    verdicts = tuple(answer.verdict for answer in answers(claims))
    what = f"shown: {listed(shown)}" if shown else "nothing is told apart"
    return Fold(f"{pair_name(claims)}: {what}", Part(verdicts))


def _remarks(
    every: Sequence[RecipeClaims], settings: AssessSettings, notes: Sequence[str]
) -> Iterator[str]:
    evaluation = every[0].evaluation
    yield about_seeds(every)
    yield (
        f"{evaluation.chosen} stands for {_stands_for(evaluation)}, as it has the best "
        f"{settings.target[0]} on validation patients of all cells; "
        "the test patients took no part in that choice. Deviation from "
        "parity is the mean of |1 − ratio| over six ratios (share flagged, error, false discovery, "
        "false negative, false omission and false positive rate) of each group to the reference "
        f"group, at {_thresholds(settings)}."
    )
    for attribute in evaluation.judged[SUPERVISED].deviation:
        small = [
            level
            for (name, level), size in evaluation.sizes.items()
            if name == attribute and level != "*" and size.rarer < FEWEST
        ]
        if small:
            yield (
                f"{attribute}: fewer than {FEWEST} test patients of the rarer class in "
                f"{', '.join(small)}. What is said of these groups rests on few people."
            )
    for group in settings.exclude_group:
        yield f"Group {group}: no part in the comparison, as it was asked for."
    yield from notes


def _thresholds(settings: AssessSettings) -> str:
    if settings.threshold is None:
        return "thresholds from validation (Youden's index)"
    return f"the threshold that --threshold {settings.threshold} gives"


def _stands_for(evaluation: Evaluation) -> str:
    if not evaluation.best:
        return "pre-training" if evaluation.elsewhere else "self-supervision"
    others = [cell for cell in evaluation.best.values() if cell != evaluation.chosen]
    return f"all starts ({listed(others)} for the {counted(len(others), 'other one')})"


def _pretraining(run: Run, settings: AssessSettings) -> Part:
    elsewhere = [
        f"{start.name}: {start.weights}, made elsewhere. Nothing was pre-trained here; on which "
        "data it was, how, and for how long is not known to this page."
        for start in starts_of(settings)
        if start.objective is None
    ]
    if not settings.objectives:
        return Part(sentences=tuple(elsewhere))
    rows, collapsed = [], list[str]()
    for folder in sorted((run.root / "encoders").iterdir()):
        about = read_model_record(folder)
        losses, kept = about.losses, about.epoch or len(about.losses)
        ends = (f"{losses[0]:.3f}", f"{losses[kept - 1]:.3f}")
        rows.append((folder.name, str(len(losses)), str(kept), *ends, *_measures(about)))
        if about.embeddings:
            embeddings = Embeddings(**dict(about.embeddings))
            collapsed += embeddings.sentences(f"Encoder {folder.name}")
    sentences = [
        f"{listed(settings.objectives)} on training patients, without their labels; validation "
        "and test patients took no part."
    ]
    if patience := settings.pretrain_patience:
        sentences.append(
            "A tenth of them was held out: pre-training ends after "
            f"{counted(patience, 'epoch')} without a lower loss on it, and keeps the weights of "
            "the lowest."
        )
    title = "Loss on the training patients held out" if patience else "Loss"
    ends_of = ("Loss of the first", "Of the one kept")
    columns = ("Encoder", "Epochs", "Kept", *ends_of, "Spread of embeddings", "Effective rank")
    sentences += [*elsewhere, *collapsed]
    table = Table(title, columns, tuple(rows))
    if len(rows) <= LARGE:
        return Part(sentences=tuple(sentences), tables=(table,))
    fold = Fold(f"Every encoder: {counted(len(rows), 'row')}", Part(tables=(table,)))
    return Part(sentences=tuple(sentences), folds=(fold,))


def _measures(about: ModelRecord) -> tuple[str, str]:
    """Return spread and rank of an encoder's embeddings; earlier versions kept none."""
    seen = about.embeddings
    return (f"{seen.spread:.2f}", f"{seen.rank:.1f}") if seen else ("–", "–")


def _tuning(run: Run, evaluations: Sequence[Evaluation], settings: AssessSettings) -> Part:
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
    shown = (*tables, cost_table(run, settings, evaluations[0].share))
    large = len(evaluations) * len(evaluations[0].models) > LARGE
    return Part(
        sentences=(
            f"All cells have one recipe, one head and {_scales(run, evaluations[0])}. Supervised "
            f"starts from {_started(settings)}, and tunes "
            "everything. So frozen0 differs from it only in what it starts from; the other cells "
            f"also keep some layers frozen{_gradual(evaluations[0])}.",
            cost_sentence(run, settings, evaluations[0].share, evaluations[0].chosen),
        ),
        tables=() if large else shown,
        folds=(Fold(f"Every cell: {counted(len(shown), 'table')}", Part(tables=shown)),)
        if large
        else (),
    )


def _gradual(evaluation: Evaluation) -> str:
    if not any(cell.endswith("gradual") for cell in evaluation.models):
        return ""
    return ", and gradual tunes the head first, with one block or stage more in each epoch after it"


def _scales(run: Run, evaluation: Evaluation) -> str:
    """Say whether all cells scale their inputs alike."""
    names = {
        cell: f"{with_share(cell, evaluation.share)}-seed{run.head.seed}"
        for cell in evaluation.models
    }
    inputs = {cell: read_model_record(run.folder(name)).spec.inputs for cell, name in names.items()}
    others = [cell for cell, own in inputs.items() if own != inputs[SUPERVISED]]
    if not others:
        return "one scale of their inputs"
    return (
        f"one scale of their inputs but for {listed(others)}, which read them in the scale that "
        "their encoder was trained in"
    )


def _started(settings: AssessSettings) -> str:
    """Return in words which weights ``--weights`` names."""
    words = {"none": "random ones of the same seed", "pretrained": "timm's"}
    weights = words.get(settings.weights, settings.weights)
    same = "the weights that pre-training starts from" if settings.objectives else "weights"
    return f"{same} ({weights})"
