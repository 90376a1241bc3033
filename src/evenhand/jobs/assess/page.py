"""The report of an assessment, which begins with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter

from evenhand.errors import count_text
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run
from evenhand.jobs.assess.answers import answers, judgements, pair_name, seeds_text, verdict_rows
from evenhand.jobs.assess.claims import RecipeClaims, make_claims, write_metric_rows
from evenhand.jobs.assess.compute import compute_sentence, compute_table
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.evidence import evidence_part, value_text
from evenhand.jobs.assess.grid import cell_name
from evenhand.jobs.assess.overview import LARGE, label_part, overview_part
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.jobs.assess.similarity_grid_record import read_grid
from evenhand.jobs.assess.similarity_view import grid_part
from evenhand.jobs.assess.starts import encoder_starts
from evenhand.jobs.pretrain.curve import embeddings_of
from evenhand.jobs.report import read_check, read_similarity, write_page_and_verdicts
from evenhand.metrics.rows import EVERYBODY
from evenhand.networks.model import read_model_record
from evenhand.reporting.check_record import CheckRecord
from evenhand.reporting.page import section_page
from evenhand.reporting.section import (
    PART,
    HiddenPart,
    Part,
    Table,
    include_page,
    section,
    sections_of,
)
from evenhand.reporting.sections.requirements import requirement_verdicts
from evenhand.reporting.sections.similarity import similarity_verdicts
from evenhand.reporting.similarity_record import SimilarityRecord
from evenhand.reporting.text.vocabulary import join_words

MOST_UNCLEAR = 6  # pairs without claims; if there are more, one line hides them all
FEWEST = 30  # test patients of the rarer class; a remark names groups with fewer


@dataclass(frozen=True, eq=False)
class Assessment:
    """The content of the page: the run, its claims, and the results of stages 5, 1 and 4."""

    run: Run
    claims: Sequence[RecipeClaims]
    evaluations: Sequence[Evaluation]
    check: CheckRecord
    similarity: SimilarityRecord

    @property
    def main(self) -> Evaluation:
        """The evaluation with the largest share of labels."""
        return self.evaluations[0]

    @cached_property
    def settings(self) -> AssessSettings:
        """The settings of the run."""
        return self.run.record.settings_as(AssessSettings)


def write_assessment(run: Run, evaluations: Sequence[Evaluation]) -> None:
    """Write the numbers, the verdicts and the page of an assessment."""
    requirements, similarity = read_check(run), read_similarity(run)
    all_claims = make_claims(evaluations)
    write_metric_rows(run, evaluations, all_claims)
    page = assessment_page(Assessment(run, all_claims, evaluations, requirements, similarity))
    verdicts = (
        requirement_verdicts(requirements),
        verdict_rows(all_claims),
        similarity_verdicts(similarity),
    )
    write_page_and_verdicts(run, page, chain.from_iterable(verdicts))


def assessment_page(assessment: Assessment) -> str:
    """Return the report of an assessment as HTML."""
    main, record = assessment.main, assessment.run.record
    source = record.source or SourceRecord(reader="", path="")
    introduction = (
        f"{source.path}: {source.label}. {main.sizes[EVERYBODY, EVERYBODY].n:,} test samples, "
        f"scored once by each model; intervals (95 %) are over {source.unit}s"
        f"{', those of differences between cells also over seeds' if main.seeds > 1 else ''}."
    )
    title = f"evenhand assess: {assessment.run.root.resolve().name}"
    return section_page(title, introduction, sections_of("assess", assessment), record)


def _question(assessment: Assessment) -> str:
    subject = "pre-training" if assessment.main.external else "self-supervision"
    return f"Did {subject} make this fairer?"


@section("assess", "answer", _question, place=10, template=PART)
def _answer(assessment: Assessment) -> Part:
    """Answer for the chosen cell against supervised; hide the answers for the other pairs."""
    first, *others = assessment.claims
    remarks = _remarks(assessment.claims, assessment.settings, assessment.run.record.notes)
    return Part(
        tuple(answer.answer for answer in answers(first)),
        tuple(remarks),
        hidden=tuple(_hidden_pairs(others)),
    )


@section("assess", "overview", "The grid at a glance", place=15, template=PART)
def _overview(assessment: Assessment) -> Part | None:
    return overview_part(assessment.evaluations, assessment.claims, assessment.settings)


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
    return grid_part(grid, assessment.main, assessment.run.record.unit)


@section("assess", "evaluation", "5. Evaluation", place=60, template=PART)
def _evaluation_stage(assessment: Assessment) -> Part:
    return evidence_part(assessment.main, assessment.settings)


@section("assess", "labels", "Fewer labels: performance and fairness", place=70, template=PART)
def _labels(assessment: Assessment) -> Part | None:
    if len(assessment.evaluations) < 2:
        return None
    return label_part(assessment.evaluations, assessment.claims)


def _hidden_pairs(all_claims: Sequence[RecipeClaims]) -> Iterator[HiddenPart]:
    """Yield a hidden part for each pair; many pairs without claims are together in one."""
    unclear = [claims for claims in all_claims if not any(claim.sign for claim in claims.family)]
    together = unclear if len(unclear) > MOST_UNCLEAR else []
    yield from (_hidden_pair(claims) for claims in all_claims if claims not in together)
    if together:
        line = f"{count_text(len(together), 'other pair')}: no difference is certain"
        yield HiddenPart(line, Part(hidden=tuple(map(_hidden_pair, together))))


def _hidden_pair(claims: RecipeClaims) -> HiddenPart:
    """Return a hidden part with the answers for a pair of cells; its summary names the claims."""
    shown = [
        f"{judgement.topic} ({judgement.verdict.attribute})"
        for judgement in judgements(claims)
        if judgement.verdict.claim
    ]
    verdicts = tuple(answer.answer for answer in answers(claims))
    result = f"shown: {join_words(shown)}" if shown else "no difference is certain"
    return HiddenPart(f"{pair_name(claims)}: {result}", Part(verdicts))


def _remarks(
    all_claims: Sequence[RecipeClaims], settings: AssessSettings, notes: Sequence[str]
) -> Iterator[str]:
    evaluation = all_claims[0].evaluation
    yield seeds_text(all_claims)
    yield (
        f"{evaluation.chosen} represents {_represented(evaluation)}, as it has the best "
        f"{settings.target[0]} of all cells on validation patients; test patients took no part in "
        "that choice. Deviation from parity is the mean of |1 − ratio| over six ratios (share "
        "flagged, error, false discovery, false negative, false omission and false positive rate) "
        f"of each group to the reference group, at {_thresholds(settings)}."
    )
    for attribute in evaluation.attributes:
        small = [
            level
            for (name, level), size in evaluation.sizes.items()
            if name == attribute and level != EVERYBODY and size.rarer < FEWEST
        ]
        if small:
            yield (
                f"{attribute}: fewer than {FEWEST} test patients of the rarer class in "
                f"{', '.join(small)}. Results for these groups rest on few patients."
            )
    for group in settings.exclude_group:
        yield f"Group {group}: excluded from the comparison by --exclude-group."
    yield from notes


def _thresholds(settings: AssessSettings) -> str:
    if settings.threshold is None:
        return "thresholds from validation (the largest sum of sensitivity and specificity)"
    return f"the threshold that --threshold {settings.threshold} gives"


def _represented(evaluation: Evaluation) -> str:
    if not evaluation.best:
        return "pre-training" if evaluation.external else "self-supervision"
    others = [cell for cell in evaluation.best.values() if cell != evaluation.chosen]
    return f"all starts ({join_words(others)} for the {count_text(len(others), 'other one')})"


def _pretraining(run: Run, settings: AssessSettings) -> Part:
    external = [
        f"{start.name}: {start.weights}, an external encoder. It was not pre-trained here; its "
        "data, its objective and its epochs are unknown."
        for start in encoder_starts(settings)
        if start.objective is None
    ]
    if not settings.objectives:
        return Part(sentences=tuple(external))
    rows, collapsed = [], list[str]()
    for folder in sorted((run.root / "encoders").iterdir()):
        record = read_model_record(folder)
        losses, best = record.losses, record.epoch or len(record.losses)
        first_and_best = (f"{losses[0]:.3f}", f"{losses[best - 1]:.3f}")
        measures = ("–", "–")  # earlier versions did not record them
        if embeddings := embeddings_of(record):
            measures = (f"{embeddings.spread:.2f}", f"{embeddings.rank:.1f}")
            collapsed += embeddings.sentences(f"Encoder {folder.name}")
        rows.append((folder.name, str(len(losses)), str(best), *first_and_best, *measures))
    sentences = [
        f"{join_words(settings.objectives)} on training patients, without their labels; validation "
        "and test patients took no part."
    ]
    if patience := settings.pretrain_patience:
        sentences.append(
            "A tenth of the training patients was held out. Pre-training ends after "
            f"{count_text(patience, 'epoch')} without a lower loss on them, and the encoder has "
            "the weights of the epoch with the lowest loss."
        )
    title = "Loss on held-out training patients" if patience else "Loss"
    columns = (
        *("Encoder", "Epochs", "Best epoch", "Loss of the first epoch", "Loss of the best epoch"),
        *("Spread of embeddings", "Effective rank"),
    )
    sentences += [*external, *collapsed]
    table = Table(title, columns, tuple(rows))
    if len(rows) <= LARGE:
        return Part(sentences=tuple(sentences), tables=(table,))
    encoders = HiddenPart(f"Every encoder: {count_text(len(rows), 'row')}", Part(tables=(table,)))
    return Part(sentences=tuple(sentences), hidden=(encoders,))


def _tuning(run: Run, evaluations: Sequence[Evaluation], settings: AssessSettings) -> Part:
    tables = []
    for evaluation in evaluations:
        rows = [
            (
                cell,
                f"{evaluation.parameters[cell]:,}",
                value_text(Value.of(judged.auc)),
                ", ".join(f"{value:.3f}" for value in evaluation.auc_by_seed(cell)),
            )
            for cell, judged in evaluation.judged.items()
        ]
        title = f"Cells, labels of {evaluation.share:.0%} of the training patients"
        tables.append(
            Table(title, ("Cell", "Tuned, without the head", "AUC", "By seed"), tuple(rows))
        )
    shown = (*tables, compute_table(run, settings, evaluations[0].share))
    large = len(evaluations) * len(evaluations[0].models) > LARGE
    return Part(
        sentences=(
            f"All cells have one recipe, one head and {_scales_text(run, evaluations[0])}. "
            f"Supervised starts from {_supervised_start(settings)}, and tunes all layers. "
            "So frozen0 differs from supervised only in its starting weights; the other cells "
            f"also keep some layers frozen{_gradual_text(settings)}.",
            compute_sentence(run, settings, evaluations[0].share, evaluations[0].chosen),
        ),
        tables=() if large else shown,
        hidden=(HiddenPart(f"Every cell: {count_text(len(shown), 'table')}", Part(tables=shown)),)
        if large
        else (),
    )


def _gradual_text(settings: AssessSettings) -> str:
    if "gradual" not in settings.cell:
        return ""
    return ", and gradual tunes the head first, and one more block or stage in each later epoch"


def _scales_text(run: Run, evaluation: Evaluation) -> str:
    """Return a clause about the scales of inputs of all cells."""
    seed, share = run.head.seed, evaluation.share
    folders = {cell: run.folder(cell_name(cell, share, seed)) for cell in evaluation.models}
    inputs = {cell: read_model_record(folder).spec.inputs for cell, folder in folders.items()}
    others = [cell for cell, scale in inputs.items() if scale != inputs[SUPERVISED]]
    if not others:
        return "one scale of their inputs"
    return (
        f"one scale of their inputs except for {join_words(others)}, which have the scale with "
        "which their encoder was trained"
    )


def _supervised_start(settings: AssessSettings) -> str:
    """Return a text about the starting weights of supervised."""
    texts = {"none": "random ones of the same seed", "pretrained": "timm's"}
    weights = texts.get(settings.weights, settings.weights)
    start = "the weights that pre-training starts from" if settings.objectives else "weights"
    return f"{start} ({weights})"
