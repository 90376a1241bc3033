"""`evenhand audit`: measure predictions by group, and report on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evenhand.evaluation.requests import (
    Request,
    advice_of,
    permutations_note,
    resolve_intersections,
    resolve_requests,
)
from evenhand.evaluation.settings import AuditSettings, CompareSettings
from evenhand.experiments.inputs import Inputs, find_inputs, read_inputs
from evenhand.experiments.runs import Run, begin_run
from evenhand.files import fingerprint
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import as_job
from evenhand.tables.predictions import Predictions, write_predictions

SEPARATE_SAMPLES = (
    "Each model is measured on its own samples. Models that scored other patients cannot be "
    "compared by their numbers; evenhand compare gives paired differences on the samples that all "
    "models scored."
)
"""The note on a report of several models."""


@as_job(AuditSettings, "inputs")
def audit(settings: AuditSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Audit the predictions of one or several models, side by side.

    Each model is measured on its own samples; `evenhand.compare` pairs models on shared samples.

    Parameters
    ----------
    settings
        The inputs (predictions files, or runs with all of their models), the attributes,
        and the metrics.
    out
        The run directory of the audit.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If an input cannot be read, is not a valid table of predictions, or a metric cannot be
        measured. Nothing is written in these cases.
    """
    inputs = find_inputs(settings.inputs)
    models, attributes = read_inputs(inputs, settings, settings.condition)
    resolved = resolve_intersections(settings, attributes, models, settings.split)
    attributes = resolved.attribute
    run, requests = begin_audit("audit", resolved, out, inputs, models, overwrite=overwrite)
    run.note(
        pairs=[],
        notes=[
            *(advice.why for advice in advice_of(settings)),
            *permutations_note(models, attributes, settings),
            *([SEPARATE_SAMPLES] if len(models) > 1 else []),
            *notes_of(models),
        ],
    )
    chosen = next(iter(models)) if len(models) == 1 else None
    return write_audit(run, models, chosen=chosen, requests=requests)


def notes_of(models: Mapping[str, Predictions]) -> list[str]:
    """Return the notes of the models' predictions, each once, with the names of its models."""
    notes: dict[str, list[str]] = {}
    for name, predictions in models.items():
        for note in predictions.notes:
            notes.setdefault(note, []).append(name)
    several = len(models) > 1
    return [f"{', '.join(names)}: {note}" if several else note for note, names in notes.items()]


def begin_audit(
    job: str,
    settings: AuditSettings | CompareSettings,
    out: Path,
    inputs: Inputs,
    models: Mapping[str, Predictions],
    *,
    overwrite: bool,
) -> tuple[Run, dict[str, Request]]:
    """Resolve the requests of the models, and start a run directory.

    Parameters
    ----------
    job
        The name of the job.
    settings
        The settings, with the resolved attributes.
    out
        The run directory.
    inputs
        The input files, their source and their thresholds.
    models
        The predictions of each model.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Returns
    -------
    tuple
        The run, and the request of each model.
    """
    requests = resolve_requests(models, settings.attribute, settings, inputs.cuts)
    run = begin_run(
        out,
        job,
        settings,
        fingerprint=fingerprint((), inputs.files.values()),
        reads=inputs.files.values(),
        overwrite=overwrite,
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
    """Write predictions into a run directory, evaluate them, and finish the run.

    This empties ``models``, to save memory: the evaluation takes the predictions from ``requests``,
    or reads the written files.
    """
    for name in list(models):
        write_predictions(run.predictions_file(name), models.pop(name))
    with run.phase("evaluation"):
        evaluate(run, chosen=chosen, requests=requests)
    run.finish(chosen=chosen)
    return run
