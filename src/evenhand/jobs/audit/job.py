"""`evenhand audit`: predictions in, metric rows and a report out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from evenhand.evaluation.intersections import resolve_intersections
from evenhand.evaluation.requests import Request, advice_of, permutations_note, resolve_requests
from evenhand.evaluation.settings import AuditSettings, CompareSettings, MeasureSettings
from evenhand.experiments.inputs import Inputs, find_inputs, read_inputs
from evenhand.experiments.runs import Run, begin_run
from evenhand.files import fingerprint
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import with_keywords
from evenhand.runs import run_scope
from evenhand.tables.predictions import Predictions, write_predictions

Asks = TypeVar("Asks", bound=MeasureSettings)

APART = (
    "Each model is measured on its own samples: where these are of other patients, the models "
    "cannot be compared by their numbers. evenhand compare gives paired differences on the "
    "samples that all have scored."
)


@with_keywords(AuditSettings, "inputs")
@run_scope()
def audit(settings: AuditSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Audit predictions of one or several models, side by side.

    Each model is measured on its own samples; `evenhand.jobs.audit.compare` pairs them.

    Parameters
    ----------
    settings
        The inputs (files in the contract's layout, or runs, whose models are all taken), the
        attributes, and what is measured.
    out
        The run directory of the audit.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        An input cannot be read or breaks the contract, or what is asked cannot be measured;
        nothing is written then.
    """
    inputs = find_inputs(settings.inputs)
    models, attributes = read_inputs(inputs, settings, settings.condition)
    resolved = resolve_intersections(settings, attributes, models, settings.split)
    attributes = resolved.attribute
    start = partial(begin_run, out, "audit", overwrite=overwrite)
    run, requests = begin_audit(start, resolved, inputs, models)
    run.note(
        pairs=[],
        notes=[
            *(advice.why for advice in advice_of(settings)),
            *permutations_note(models, attributes, settings),
            *([APART] if len(models) > 1 else []),
            *notes_of(models),
        ],
    )
    chosen = next(iter(models)) if len(models) == 1 else None
    return write_audit(run, models, chosen=chosen, requests=requests)


def notes_of(models: Mapping[str, Predictions]) -> list[str]:
    """Return the notes of the predictions; a note that several models share is given once."""
    notes: dict[str, list[str]] = {}
    for name, predictions in models.items():
        for note in predictions.notes:
            notes.setdefault(note, []).append(name)
    several = len(models) > 1
    return [f"{', '.join(names)}: {note}" if several else note for note, names in notes.items()]


def begin_audit(
    start: Callable[..., Run],
    settings: AuditSettings | CompareSettings,
    inputs: Inputs,
    models: Mapping[str, Predictions],
) -> tuple[Run, dict[str, Request]]:
    """Resolve what is asked of the models, and start the run directory that holds the answer.

    Parameters
    ----------
    start
        `begin_run` with the directory and the job.
    settings
        With the attributes that are looked at.
    """
    requests = resolve_requests(models, settings.attribute, settings, inputs.cuts)
    run = start(
        settings=settings,
        fingerprint=fingerprint((), inputs.files.values()),
        reads=inputs.files.values(),
    )
    run.note(models=list(models), source=inputs.source, cuts=inputs.cuts)
    return run, requests


def write_audit(
    run: Run,
    models: dict[str, Predictions],
    *,
    chosen: str | None,
    requests: Mapping[str, Request] | None = None,
) -> Run:
    """Put predictions into a run directory, evaluate them as requested, and end the run.

    ``models`` is empty afterwards: they are in ``requests`` or are read again, and need not be held
    twice.
    """
    for name in list(models):
        write_predictions(run.predictions_file(name), models.pop(name))
    with run.phase("evaluation"):
        evaluate(run, chosen=chosen, requests=requests)
    run.finish(chosen=chosen)
    return run
