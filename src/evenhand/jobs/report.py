"""`evenhand report`: write a finished run's numbers and page again, without its data; cards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.metrics_file import read_metrics
from evenhand.evaluation.requests import measure_settings
from evenhand.experiments.runs import Run, finished_run
from evenhand.files import read_json_record, to_path, write_text
from evenhand.jobs.evaluate import evaluate, positive_of, pruning_of
from evenhand.jobs.keywords import StrPath
from evenhand.reporting import check_record, model_card, similarity_record
from evenhand.reporting.check_record import CheckRecord
from evenhand.reporting.sections.requirements import requirement_verdicts, requirements_page
from evenhand.reporting.sections.similarity import similarity_page, similarity_verdicts
from evenhand.reporting.similarity_record import SimilarityRecord
from evenhand.reporting.verdicts import Verdict, write_verdicts
from evenhand.run_files import hold_lock
from evenhand.tables.predictions import read_predictions


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
        from evenhand.jobs.predict.job import write_unlabelled_page  # imports torch

        write_unlabelled_page(opened)
        return opened
    if not opened.models:
        raise EvenhandError(f"{run} is a run of {job!r}, which has no report.")
    evaluate(opened, chosen=opened.head.chosen)
    if card:
        write_card(opened, model, card)
    return opened


CARD_START = b"---\nlibrary_name: evenhand"
"""The first bytes of every model card."""


def is_card(path: Path) -> bool:
    """Return whether a file is a model card of Evenhand."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(CARD_START)) == CARD_START


def write_card(run: Run, model: str | None, path: Path) -> None:
    """Write a model card to a file; see `card_text`."""
    write_text(path, card_text(run, model))


def card_text(run: Run, model: str | None) -> str:
    """Return the card of a model of a finished run; by default of the model that the run chose.

    Raises
    ------
    EvenhandError
        If the run has no such model, or ``model`` is None and the run has several and chose none.
    """
    models = run.models
    name = model or run.head.chosen or (models[0] if len(models) == 1 else None)
    if name is None:
        raise EvenhandError(
            f"{run.root} has the models {', '.join(models)} and chose none of them. Name one with "
            "--model."
        )
    pick("model", name, dict.fromkeys(models))
    rows = read_metrics(run.root / "metrics.json")
    predictions = read_predictions(run.predictions_file(name))
    record = run.record
    split = measure_settings(record.settings).split
    pruning = pruning_of(run)
    return model_card(
        record,
        rows,
        name,
        split=split,
        names_split=bool(predictions.splits),
        positive=positive_of(predictions.classes),
        pruning=pruning,
    )
