"""The pages of what is no audit of predictions, made again from what the jobs have written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evenhand.audit.card import write_card
from evenhand.audit.evaluate import evaluate
from evenhand.errors import EvenhandError, pick
from evenhand.files import read_json, write_text
from evenhand.locks import locked
from evenhand.report.requirements import requirements_page
from evenhand.report.similarity import similarity_page, similarity_verdicts
from evenhand.report.verdicts import write_verdicts
from evenhand.runs import Run, finished_run


def write_page(run: Run) -> None:
    """Write ``report.html`` of a finished run of one of the jobs in `PAGES`."""
    write_text(run.root / "report.html", PAGES[run.facts["job"]](run))


def _check(run: Run) -> str:
    return requirements_page(_found(run, "check"), run.facts)


def _similarity(run: Run) -> str:
    found = _found(run, "similarity")
    write_verdicts(run.root / "verdicts.json", similarity_verdicts(found))
    return similarity_page(found, run.facts)


def _assess(run: Run) -> str:
    """Judge the predictions again, and write the numbers, too."""
    from evenhand.assess.evaluation import evaluate  # imports torch
    from evenhand.assess.page import page_of
    from evenhand.assess.records import write_metrics
    from evenhand.assess.settings import AssessSettings

    found = evaluate(run, AssessSettings.model_validate(run.facts["settings"]))
    write_metrics(run, found)
    return page_of(run, found, _found(run, "check"), _found(run, "similarity"))


def _found(run: Run, name: str) -> Any:
    return read_json(run.root / f"{name}.json")


PAGES: Mapping[str, Callable[[Run], str]] = {
    "assess": _assess,
    "check": _check,
    "similarity": _similarity,
}
"""What makes a job's page, by the job's name."""


def report(run: Path, *, card: Path | None = None, model: str | None = None) -> Run:
    """Write the numbers and the report of a finished run again, without its data.

    Parameters
    ----------
    run
        The run directory.
    card
        Where to write a model card, too.
    model
        Whose card; by default that of the model which the run chose.

    Raises
    ------
    EvenhandError
        The run is not finished or has no report, or a card is asked for that it cannot have.
    """
    found = finished_run(run)
    with locked(found.root):
        return _report(found, card, model)


def _report(found: Run, card: Path | None, model: str | None) -> Run:
    run, job = found.root, found.facts["job"]
    if model is not None:
        if card is None:
            raise EvenhandError(
                f"--model {model} says whose card is written, and no card is asked for: give "
                "--card FILE.md, too, or leave --model out."
            )
        pick(f"model in {run}", model, dict.fromkeys(found.models()))
    if job in PAGES:
        if card:
            raise EvenhandError(f"--card: {run} is a run of {job!r}, which has no card.")
        write_page(found)
        return found
    if not found.models():
        raise EvenhandError(f"{run} is a run of {job!r}, which has no report.")
    evaluate(found, chosen=found.facts["chosen"])
    if card:
        write_card(found, model, card)
    return found
