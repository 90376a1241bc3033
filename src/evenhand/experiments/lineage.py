"""Track the patients that weights were trained on, over all earlier runs, to refuse leaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from evenhand.cohort.cohort import Source
from evenhand.cohort.registry import READERS
from evenhand.cohort.splits import Splits, read_listing, read_split_table, write_splits
from evenhand.errors import EvenhandError, first_few
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, begin_run, open_run
from evenhand.experiments.task import Task
from evenhand.files import DamagedError
from evenhand.networks.settings import weights_path
from evenhand.spreadsheets import write_csv
from evenhand.tables.table_checks import require_columns
from evenhand.training.inputs import input_notes

SEEN = "seen.csv"
"""The file of the patients that a run's weights were trained on in earlier runs."""


class Origin(NamedTuple):
    """The identity of a data set: within one data set, an id means the same patient."""

    reader: str
    path: str
    fingerprint: str


COLUMNS = (*Origin._fields, "patient_id")


def refuse_leak(splits: Splits, weights: str, flag: str = "--weights") -> None:
    """Refuse weights that were trained on patients of the validation or test split.

    ``flag`` is the flag that names the weights.

    Raises
    ------
    EvenhandError
        If the run that trained the weights, or an earlier run that it started from, has such
        patients in its training split. Only patients of the same data set are compared.
    """
    root = _run_of_weights(weights)
    if root is None:
        return
    held_out = {*splits.val.table["patient_id"], *splits.test.table["patient_id"]}
    tables = ((root, _training_patients(open_run(root))), (root / SEEN, _earlier_patients(root)))
    for path, patients in tables:
        if leaked := sorted(held_out & _ids_in_source(_origin(splits.train.source), patients)):
            raise EvenhandError(
                f"{flag} {weights} was trained on {len(leaked)} of the {len(held_out)} patients of "
                f"the validation and test split ({first_few(leaked)}). Give the same --seed, "
                "--split and --attribute as in the run that trained on them, or leave its patients "
                f"out with --exclude-patients {path}."
            )


def write_patients(run: Run, splits: Splits, *weights: str) -> None:
    """Write the splits of a run, and the patients that its starting weights were trained on.

    With the second list (`SEEN`), later jobs do not need the earlier runs, which may be deleted.
    """
    write_splits(run.root / "splits.csv", splits)
    roots = [root for root in map(_run_of_weights, weights) if root is not None]
    if roots:
        tables = [
            table
            for root in roots
            for table in (_training_patients(open_run(root)), _earlier_patients(root))
        ]
        write_csv(run.root / SEEN, pd.concat(tables).drop_duplicates())


def paths_read(splits: Splits, weights: str, excluded: Iterable[Path], *more: str) -> list[Path]:
    """Return the paths that a training reads (data, weights, runs) and must not overwrite."""
    weights_paths = [path for path in map(weights_path, (weights, *more)) if path]
    return [Path(splits.train.source.path), *weights_paths, *excluded]


def _run_of_weights(weights: str) -> Path | None:
    """Return the run that weights name, by its folder or a file in it; None if there is none."""
    path = weights_path(weights)
    if path is None:
        return None
    path = path.resolve()
    folders = (path, *path.parents[2:3])  # RUN/models/NAME/model.safetensors
    return next((folder for folder in folders if (folder / "run.json").is_file()), None)


def _training_patients(run: Run) -> pd.DataFrame:
    """Return the training patients of a run, with the identity of their data set."""
    path = run.root / "splits.csv"
    if not path.is_file():
        raise EvenhandError(
            f"{path} is absent, so it is unknown whether that run trained its weights on "
            "patients of the validation and test split. Restore the file from a copy, or start "
            "from other --weights."
        )
    table = read_split_table(path)
    patients = table.loc[table["split"] == "train", ["patient_id"]].drop_duplicates()
    source = run.record.source
    if source is None:
        raise DamagedError(run.root / "run.json", "it lacks 'source'")
    return patients.assign(**_origin(source)._asdict())[list(COLUMNS)]


def _origin(source: Source | SourceRecord) -> Origin:
    return Origin(source.reader, source.path, source.fingerprint)


def _earlier_patients(root: Path) -> pd.DataFrame:
    """Return the patients that a run's weights were trained on in earlier runs."""
    path = root / SEEN
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    listing = read_listing(path)
    require_columns(listing, path, COLUMNS)
    return listing.fillna("")  # phantoms have an empty path


def _ids_in_source(source: Origin, patients: pd.DataFrame) -> set[str]:
    """Return the ids of the patients that belong to the same data set as ``source``."""
    ids: set[str] = set()
    for fields, rows in patients.groupby(list(Origin._fields)):
        if _same_data(source, Origin(*map(str, fields))):
            ids |= set(rows["patient_id"])
    return ids


def _same_data(first: Origin, other: Origin) -> bool:
    """Return whether equal ids in two sources mean the same patients.

    Equal ids mean the same patients in all copies of a published data set. In other data, they do
    if the path or the fingerprint is the same.
    """
    same_files = first.path == other.path or first.fingerprint == other.fingerprint
    published = first.reader in READERS and bool(READERS[first.reader].about.layout)
    return first.reader == other.reader and (published or same_files)


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
        Whether a finished or different run in ``out`` may be replaced.
    encoders
        Further weights that the job starts from, besides those of the settings.

    Raises
    ------
    EvenhandError
        If weights were trained on validation or test patients of the task.
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
