"""The run directory of a job: open it, lock it, and change its record."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field

from evenhand.errors import EvenhandError, first_few
from evenhand.files import (
    DamagedError,
    FileObject,
    new_folder,
    parse_record,
    read_object,
    to_path,
    write_json,
    writing,
)
from evenhand.launcher import is_main
from evenhand.run_files import (
    RECORD,
    Contents,
    hold_lock,
    refuse_locked,
    remove_run,
    remove_temporary,
)
from evenhand.settings import current_settings

SCHEMA = 2
"""The version of ``run.json``; since 2, a pruning has the record of its parent, too."""

R = TypeVar("R", bound="CommonRecord")
_ADVICE = "Restore the file from a copy, or remove the folder yourself and give its command again."
PACKAGES = ("evenhand", "torch", "timm", "accelerate", "optuna", "numpy", "scipy", "pandas")


_scope: ContextVar[ExitStack | None] = ContextVar("_scope", default=None)


class CommonRecord(BaseModel, frozen=True, extra="allow", populate_by_name=True):
    """The entries of ``run.json`` that are the same for all jobs.

    Attributes
    ----------
    schema_version
        The version of the format; the file calls it ``schema``.
    job
        The name of the command.
    status
        Whether the job is still running (or was killed), or finished.
    seed
        The seed of the job.
    chosen
        The model that the run recommends, if it has chosen one.
    models
        The models that the run reports, in their order.
    fingerprint
        The fingerprint of the data that the job reads.
    versions
        The versions of Python and of the packages that numbers depend on.
    seconds
        Phase → wall time in seconds.
    """

    schema_version: int = Field(alias="schema")
    job: str
    status: Literal["running", "finished"]
    seed: int
    chosen: str | None
    models: tuple[str, ...]
    fingerprint: str
    versions: dict[str, str]
    seconds: dict[str, float]


class RunHead(CommonRecord):
    """A ``run.json`` whose settings and further entries are not checked."""

    settings: dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """A run directory: ``run.json``, ``models/<name>/``, ``metrics.json``, ``report.html``.

    Every change of ``run.json`` is written at once, so a killed run shows how far it got. Entries
    beyond `RunHead` are read by `evenhand.experiments.runs.Run`.
    """

    root: Path

    @property
    def head(self) -> RunHead:
        """The content of ``run.json`` as it is now.

        Raises
        ------
        EvenhandError
            If ``run.json`` is damaged, or a later version wrote it.
        """
        path = self.root / RECORD
        return parse_record(RunHead, _read_record(path), path, strict=True)

    @property
    def finished(self) -> bool:
        """Whether the job is finished."""
        return self.head.status == "finished"

    def note(self, **entries: Any) -> None:
        """Add entries to ``run.json``, or replace them.

        If a launcher started several processes, only the main one writes.
        """
        if is_main():
            write_record(self.root, update_record(self.head, entries))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall time of the block, in seconds, to a phase in ``run.json``."""
        start = time.perf_counter()
        yield
        seconds = self.head.seconds
        spent = seconds.get(name, 0.0) + time.perf_counter() - start
        self.note(seconds={**seconds, name: round(spent, 3)})

    def folder(self, name: str) -> Path:
        """Return the folder of one model of the run."""
        return self.root / "models" / name

    def predictions_file(self, name: str) -> Path:
        """Return the path of one model's predictions."""
        return self.folder(name) / "predictions.parquet"

    def finish(self, *, chosen: str | None = None) -> None:
        """Mark the job as finished; ``chosen`` is the model that it recommends."""
        self.note(status="finished", chosen=chosen)


def update_record(record: R, entries: Mapping[str, Any]) -> R:
    """Return a record with new values of some entries, after a check of their types."""
    values = {name: value for name, value in record if name in record.model_fields_set}
    return type(record).model_validate({**values, **entries})


def write_record(root: Path, record: CommonRecord) -> None:
    """Write the ``run.json`` of a run directory, without entries that are not set."""
    values = record.model_dump(mode="json", by_alias=True, exclude_unset=True)
    write_json(root / RECORD, values)


@contextmanager
def run_scope() -> Iterator[None]:
    """Keep the run directories that the block opens locked until the block ends.

    If an `EvenhandError` ends the block, runs that it started are removed unless they hold work. So
    a refused command leaves nothing behind.
    """
    with ExitStack() as stack:
        token = _scope.set(stack)
        try:
            yield
        finally:
            _scope.reset(token)


def start_run(
    root: Path,
    job: str,
    settings: Mapping[str, Any],
    *,
    fingerprint: str,
    reads: Iterable[Path] = (),
    overwrite: bool = False,
    goes_on: bool = False,
) -> RunFolder:
    """Open a run directory for a job: a new one, or that of the same job that was killed.

    Call it in a `run_scope`. Until the scope ends, no other process can work in the directory.

    Parameters
    ----------
    root
        The directory. It may be absent, empty, or hold an unfinished run of the same job.
    job
        The name of the command.
    settings
        The job's settings as JSON values, including ``seed``.
    fingerprint
        The fingerprint of the data that the job reads.
    reads
        The files, folders and runs that the job reads; paths that do not exist are ignored.
    overwrite
        Whether a finished or different run in the directory may be replaced.
    goes_on
        Whether a finished run with the same settings is opened again to add work to it.

    Raises
    ------
    EvenhandError
        If the directory holds another job, other settings, other data, a finished run, or files
        that belong to no run; if the job reads a path inside the directory; if another process
        works in it; or if it cannot be written.
    """
    scope = _scope.get()
    if scope is None:
        raise RuntimeError("start_run() has to be called in a run_scope()")
    refuse_locked(root)
    _refuse_inputs_inside(root, reads)
    opened = scope.enter_context(_locked_folder(root))
    run = RunFolder(root)
    if (root / RECORD).exists() and not overwrite:
        _check_same(run, job, settings, fingerprint, goes_on=goes_on)
        remove_temporary(root)
        return run
    _clear_folder(root)
    head = RunHead(
        schema_version=SCHEMA,
        job=job,
        status="running",
        settings=dict(settings),
        seed=settings["seed"],
        chosen=None,
        models=(),
        fingerprint=fingerprint,
        versions=package_versions(),
        seconds={},
    )
    opened.is_new = True
    write_record(root, head)
    return run


@dataclass
class _Opened:
    """An opened directory; ``is_new`` if this process started its run."""

    is_new: bool = False


@contextmanager
def _locked_folder(root: Path) -> Iterator[_Opened]:
    """Create and lock a folder; after an `EvenhandError`, remove a new run that holds no work."""
    opened = _Opened()
    with ExitStack() as stack:
        with writing(root):
            stack.enter_context(new_folder(root))
            stack.enter_context(hold_lock(root))
        try:
            yield opened
        except EvenhandError:
            if opened.is_new and not Contents.of(root).work:
                with suppress(EvenhandError):
                    remove_run(root)
            raise


def _clear_folder(root: Path) -> None:
    """Remove an earlier run from a folder; refuse a folder that holds anything else."""
    if (root / RECORD).exists():
        try:
            _read_record(root / RECORD)
        except DamagedError as error:
            raise EvenhandError(
                f"{error} --overwrite replaces only runs of Evenhand, so nothing was removed."
            ) from None
        remove_run(root)
    contents = Contents.of(root)
    if contents.strange or contents.written:
        raise EvenhandError(
            f"{root} is not empty and holds no run "
            f"({first_few(contents.strange or contents.written)}). Name another folder with --out, "
            "or empty it."
        )
    remove_temporary(root)


def open_folder(root: str | os.PathLike[str]) -> RunFolder:
    """Return the run directory at a path.

    Raises
    ------
    EvenhandError
        If the path holds no run, the run is damaged, or a later version wrote it.
    """
    run = RunFolder(to_path(root, "run"))
    if not (run.root / RECORD).is_file():
        raise EvenhandError(f"{root} is no run directory: it has no run.json.")
    run.head  # noqa: B018  (a damaged record raises)
    return run


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a source tree
            continue
    return versions


def _check_same(
    run: RunFolder, job: str, settings: Mapping[str, Any], fingerprint: str, *, goes_on: bool
) -> None:
    head = run.head
    if head.job != job:
        raise EvenhandError(
            f"{run.root} holds a run of {head.job!r}, not of {job!r}. Name another folder "
            "with --out, or replace it with --overwrite."
        )
    if head.status == "finished" and not goes_on:
        raise EvenhandError(
            f"{run.root} holds a finished run. Name another folder with --out, or replace it "
            "with --overwrite."
        )
    before, settings = current_settings(head.settings, settings), current_settings(settings)
    changes = sorted(
        name for name in {*before, *settings} if before.get(name) != settings.get(name)
    )
    if changes and head.schema_version < SCHEMA:
        raise EvenhandError(
            f"{run.root} holds an unfinished run of an earlier version of Evenhand, or one with "
            "other settings. Finish it with that version, name another --out, or give --overwrite."
        )
    if changes:
        listed = "; ".join(
            f"{name} was {before.get(name)!r}, is {settings.get(name)!r}" for name in changes
        )
        raise EvenhandError(
            f"{run.root} holds an unfinished run with other settings ({listed}). Give the same "
            "settings to continue it, another --out, or --overwrite."
        )
    if head.fingerprint != fingerprint:
        raise EvenhandError(
            f"the data have changed since the unfinished run in {run.root} began. Name another "
            "folder with --out, or start again with --overwrite."
        )


def _refuse_inputs_inside(root: Path, reads: Iterable[Path]) -> None:
    """Refuse a run directory that holds an input, because replacing the run would remove it."""
    for path in reads:
        is_data = path != Path() and path.exists()  # phantoms have no path
        if is_data and path.resolve().is_relative_to(root.resolve()):
            raise EvenhandError(
                f"{path} is read by this run, and cannot be or lie in the run's own folder, "
                f"{root}. Name another folder with --out."
            )


def _read_record(path: Path) -> FileObject:
    """Return the content of a ``run.json``, after a check that Evenhand wrote it."""
    try:
        content = read_object(path, SCHEMA)
        for name in ("job", "fingerprint"):
            if not isinstance(content[name], str):
                raise DamagedError(path, f"its {name} is {content[name]!r}, which is no text")
    except DamagedError as error:
        raise DamagedError(path, error.problem, _ADVICE) from None
    return content
