"""Begin the run of a job that trains: refuse leaks, and record the data and the patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evenhand.experiments.lineage import paths_read, refuse_leak, write_patients
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, begin_run
from evenhand.experiments.task import Task
from evenhand.training.inputs import input_notes


def begin_training_run(
    job: str,
    task: Task,
    out: Path,
    models: list[str],
    *,
    overwrite: bool,
    encoders: Sequence[str] = (),
) -> Run:
    """Open the run directory of a job that trains, and write its data and splits.

    Parameters
    ----------
    job
        The name of the job.
    task
        The data and the settings of the fits.
    out
        The run directory.
    models
        The names of the models that the job will train.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.
    encoders
        Further weights that the job starts from, besides those of the settings.

    Raises
    ------
    EvenhandError
        If weights were trained on test patients of the task.
    """
    settings = task.settings
    refuse_leak(task.splits, settings.weights)
    for encoder in encoders:
        refuse_leak(task.splits, encoder, "--encoder")
    source = task.splits.train.source
    run = begin_run(
        out,
        job,
        settings,
        fingerprint=task.fingerprint,
        reads=paths_read(task.splits, settings.weights, settings.exclude_patients, *encoders),
        overwrite=overwrite,
    )
    run.note(
        models=models,
        source=SourceRecord.of(source, levels=task.splits.train.levels),
        notes=[*source.notes, *input_notes(task.inputs, settings.weights)],
    )
    write_patients(run, task.splits, settings.weights, *encoders)
    return run
