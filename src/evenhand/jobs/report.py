"""`evenhand report`: write the numbers and the page of a finished run again, without its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.experiments.runs import Run, finished_run
from evenhand.files import read_json_record, to_path, write_text
from evenhand.jobs.card import is_card, write_card
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import StrPath
from evenhand.jobs.predict.job import write_unlabelled_page
from evenhand.locks import hold_lock
from evenhand.reporting import check_record, similarity_record
from evenhand.reporting.check_record import CheckRecord
from evenhand.reporting.sections.requirements import requirement_verdicts, requirements_page
from evenhand.reporting.sections.similarity import similarity_page, similarity_verdicts
from evenhand.reporting.similarity_record import SimilarityRecord
from evenhand.reporting.verdicts import Verdict, write_verdicts


def write_page(run: Run) -> None:
    """Write the page and the verdicts of a run of one of the jobs in `PAGES`."""
    PAGES[run.head.job](run)


def _write_check(run: Run) -> None:
    record = read_check(run)
    write_page_and_verdicts(
        run, requirements_page(record, run.record), requirement_verdicts(record)
    )


def _write_similarity(run: Run) -> None:
    record = read_similarity(run)
    write_page_and_verdicts(run, similarity_page(record, run.record), similarity_verdicts(record))


def _write_assess(run: Run) -> None:
    """Evaluate the predictions of an assessment again, and write its page."""
    from evenhand.jobs.assess.judging import evaluate_grid  # imports torch
    from evenhand.jobs.assess.page import write_assessment
    from evenhand.jobs.assess.settings import AssessSettings

    write_assessment(run, evaluate_grid(run, run.record.settings_as(AssessSettings)))


def _write_benchmark(run: Run) -> None:
    """Compare the entries of a benchmark again, and write its page."""
    from evenhand.jobs.benchmark.job import write_benchmark  # imports torch
    from evenhand.jobs.benchmark.settings import BenchmarkSettings

    write_benchmark(run, run.record.settings_as(BenchmarkSettings))


def write_page_and_verdicts(run: Run, page: str, verdicts: Iterable[Verdict]) -> None:
    """Write ``report.html`` and ``verdicts.json``."""
    write_verdicts(run.root / "verdicts.json", verdicts)
    write_text(run.root / "report.html", page)


def read_check(run: Run) -> CheckRecord:
    """Return the content of ``check.json``; a damaged file raises `DamagedError`."""
    path = run.root / check_record.FILE
    return read_json_record(CheckRecord, path, check_record.SCHEMA)


def read_similarity(run: Run) -> SimilarityRecord:
    """Return the content of ``similarity.json``; a damaged file raises `DamagedError`."""
    path = run.root / similarity_record.FILE
    return read_json_record(SimilarityRecord, path, similarity_record.SCHEMA)


PAGES: Mapping[str, Callable[[Run], None]] = {
    "assess": _write_assess,
    "benchmark": _write_benchmark,
    "check": _write_check,
    "similarity": _write_similarity,
}
"""The function that writes a job's page, by the job's name."""


def report(run: StrPath, *, card: StrPath | None = None, model: str | None = None) -> Run:
    """Recompute the numbers and the report of a finished run, without its data.

    Parameters
    ----------
    run
        The run directory.
    card
        The file of a model card; None for no card.
    model
        The model of the card; by default the one that the run chose.

    Raises
    ------
    EvenhandError
        If the run is not finished, or has no report or no such card.
    """
    opened = finished_run(run)
    with hold_lock(opened.root):
        return _report(opened, None if card is None else to_path(card, "card"), model)


def _check_card_file(card: Path) -> None:
    """Refuse to write a card over anything but an earlier card."""
    if card.exists() and not is_card(card):
        raise EvenhandError(
            f"--card {card}: the file exists, and is no model card of Evenhand. Name another file."
        )


def _report(opened: Run, card: Path | None, model: str | None) -> Run:
    run, job = opened.root, opened.head.job
    if card is not None:
        _check_card_file(card)
    if model is not None:
        if card is None:
            raise EvenhandError(
                f"--model {model} names the model of a card, but no card is requested. Give "
                "--card FILE.md, too, or leave --model out."
            )
        pick(f"model in {run}", model, dict.fromkeys(opened.models))
    if job in PAGES:
        if card:
            raise EvenhandError(
                f"--card: {run} is a run of {job!r}, which has no card. Leave --card out."
            )
        write_page(opened)
        return opened
    if not opened.record.labelled:
        if card:
            raise EvenhandError(
                f"--card: {run} has no labels, so nothing was measured. Leave --card out."
            )
        write_unlabelled_page(opened)
        return opened
    if not opened.models:
        raise EvenhandError(f"{run} is a run of {job!r}, which has no report.")
    evaluate(opened, chosen=opened.head.chosen)
    if card:
        write_card(opened, model, card)
    return opened
