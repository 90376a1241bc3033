"""Open the storage of a study, and give workers access to it.

The driver of a search is the process that starts its trials; workers train them.
"""

from __future__ import annotations

import re
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage, fail_stale_trials, get_storage
from optuna.storages._heartbeat import (
    BaseHeartbeatThread,
    get_heartbeat_thread,
    is_heartbeat_enabled,
)
from optuna.storages._rdb.models import SCHEMA_VERSION, BaseModel, VersionInfoModel
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial
from sqlalchemy import URL, create_engine, inspect
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.experiments.study_serving import StudyProxy, reason_of, serve_storage
from evenhand.files import DamagedError
from evenhand.workers import MeetingPoint

HEARTBEAT = 30  # seconds between heartbeats of a trial on a database server
GRACE = 120  # seconds without a heartbeat after which the trial's driver counts as dead
_LOCKED = 60  # seconds that SQLite waits for another connection to finish writing
_PATIENCE = 30.0  # seconds within which a worker must reach the study


def open_storage(url: str) -> BaseStorage:
    """Open a storage; create it if it is absent. Trials on a database server have heartbeats.

    Parameters
    ----------
    url
        Any URL that Optuna takes (``sqlite:///FILE``, ``postgresql://…``).

    Raises
    ------
    EvenhandError
        If the URL cannot be opened, or the database holds tables of another program; nothing is
        written then.
    """
    if url in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
        raise EvenhandError(
            f"--storage {url} would be lost with the process; name a file: sqlite:///FILE"
        )
    shown = _without_password(url)
    in_file = url.startswith("sqlite")
    options = {"connect_args": {"timeout": _LOCKED}} if in_file else {}
    try:
        _check_tables(url, options)
        with _experimental():
            storage = RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=None if in_file else HEARTBEAT,
                grace_period=None if in_file else GRACE,
                heartbeat_stale_trial_callback=retry_trial,
            )
    except ImportError as error:
        raise EvenhandError(
            f"--storage {shown} needs the database's driver on this machine and on every worker's: "
            f"{error.__cause__ or error}"
        ) from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ValueError) as error:
        raise EvenhandError(
            f"--storage {shown} cannot be opened as a storage of Optuna {optuna.__version__}: "
            f"{str(error).strip().splitlines()[0]}. Name another, or leave it out."
        ) from None
    return get_storage(storage)


def open_run_storage(run: Run) -> BaseStorage:
    """Open ``study.db`` in a run directory; create it if the run has no study yet.

    Raises
    ------
    EvenhandError
        If the file cannot be written, is damaged, or is absent although the record of the run
        says that it has a study.
    """
    path = run.root.resolve() / "study.db"
    if run.record.study and not (path.is_file() and path.stat().st_size):
        state = "it is empty" if path.is_file() else "there is no such file"
        raise DamagedError(path, f"{state}, although the search has begun")
    try:
        storage = open_storage(URL.create("sqlite", database=str(path)).render_as_string())
    except EvenhandError as error:
        source = error.__context__  # the error of SQLAlchemy, which has SQLite's as ``orig``
        cause = getattr(source, "orig", None)
        if isinstance(cause, sqlite3.OperationalError):
            raise EvenhandError(_unwritable(str(path), str(cause))) from error
        raise DamagedError(path, reason_of(source or error)) from error
    run.note(study=path.name)
    return storage


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Turn errors of a storage in the block into an `EvenhandError`.

    Parameters
    ----------
    where
        The storage's file or URL, for the message.

    Raises
    ------
    EvenhandError
        If the storage cannot be read or written: the disk is full, or the server is gone.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, grpc.RpcError) as error:
        raise EvenhandError(_unwritable(_without_password(where), reason_of(error))) from error


def _unwritable(where: str, reason: str) -> str:
    return (
        f"the study in {where} cannot be read or written: {reason}. Finished trials are kept. Fix "
        "the cause (for example, make room on the disk), and give the same command again."
    )


def _without_password(url: str) -> str:
    return re.sub(r"(//[^:/@]*):.*@", r"\1:***@", url)


def _check_tables(url: str, options: dict[str, Any]) -> None:
    """Refuse a database with tables of another program, or of a later version of Optuna.

    Optuna itself refuses tables of its earlier versions. A database with only some of Optuna's
    tables is allowed: a process was killed while it created them.

    Raises
    ------
    RuntimeError
        If the database has tables and none of them is Optuna's, a table with one of Optuna's names
        has other columns, or a later version of Optuna made them.
    """
    engine = create_engine(url, **options)
    try:
        inspector = inspect(engine)
        present = inspector.get_table_names()
        tables = {table.name: table for table in BaseModel.metadata.sorted_tables}
        same_name = [name for name in present if name in tables]
        same_columns = [
            name
            for name in same_name
            if set(tables[name].columns.keys())
            <= {column["name"] for column in inspector.get_columns(name)}
        ]
        if VersionInfoModel.__tablename__ in same_columns:
            _check_version(engine)
        elif present and (not same_name or same_columns != same_name):
            raise RuntimeError(f"it holds tables of another program ({', '.join(present)})")
    finally:
        engine.dispose()


def _check_version(engine: Engine) -> None:
    with Session(engine) as session:
        info = VersionInfoModel.find(session)
        if info is not None and info.schema_version > SCHEMA_VERSION:
            raise RuntimeError(f"a later Optuna, {info.library_version}, made its tables")


def begin_trial(study: Study) -> Trial:
    """Begin a trial; hide Optuna's warning that nobody sends heartbeats, as `Heartbeats` does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        return study.ask()


def retry_trial(study: Study, trial: FrozenTrial) -> None:
    """Enqueue the parameters of a failed trial once more, unless it was a retry itself."""
    if "retry_of" not in trial.user_attrs:
        origin = {name: v for name, v in trial.user_attrs.items() if name == "origin"}
        study.enqueue_trial(trial.params, user_attrs={**origin, "retry_of": trial.number})


@contextmanager
def serve_study(study: Study, meeting_point: MeetingPoint | None) -> Iterator[Study]:
    """Yield the study that workers use to report values and to learn whether to stop.

    A study in a file is served by Optuna's gRPC proxy during the block, because only processes of
    one machine can safely write the file. With a database server, workers connect to the server.

    Parameters
    ----------
    study
        The study as the driver sees it.
    meeting_point
        The socket folder or address at which workers reach this process; None if they run in it.
    """
    storage = study._storage
    if meeting_point is None or is_heartbeat_enabled(storage):
        yield _study_of_workers(study, storage)
        return
    with serve_storage(storage, meeting_point) as access:
        proxy = StudyProxy(access)
        try:
            yield _study_of_workers(study, proxy)
        finally:
            proxy.close()  # before the server stops; otherwise the proxy prints a warning


def _study_of_workers(study: Study, storage: BaseStorage) -> Study:
    return optuna.load_study(
        study_name=study.study_name,
        storage=storage,
        sampler=RandomSampler(),  # unused: only the driver draws parameters
        pruner=study.pruner,
    )


def check_study_reachable(study: Study) -> None:
    """Refuse to start a trial in a worker that cannot reach the study.

    Raises
    ------
    EvenhandError
        If the driver's proxy does not answer.
    """
    storage = study._storage
    if isinstance(storage, StudyProxy):
        try:
            storage.wait_server_ready(_PATIENCE)
        except ConnectionError:
            raise EvenhandError(
                f"a worker on {socket.gethostname()} cannot reach the study that this command "
                f"serves at {storage.access.target}. Allow the nodes to connect to this address, "
                "check that --tls-certificate was issued for it, or keep the study on a database "
                "server that all nodes can reach: --storage URL."
            ) from None


class Heartbeats:
    """Sends heartbeats to a database server for the trials that this driver's workers run."""

    def __init__(self, study: Study) -> None:
        self._storage = study._storage
        self._threads: dict[int, BaseHeartbeatThread] = {}

    def start(self, trial_id: int) -> None:
        """Start the heartbeats of a trial; with a storage in a file, do nothing."""
        self._threads[trial_id] = get_heartbeat_thread(trial_id, self._storage)
        self._threads[trial_id].start()

    def stop(self, trial_id: int) -> None:
        """Stop the heartbeats of a trial."""
        self._threads.pop(trial_id).join()


@contextmanager
def heartbeats(study: Study) -> Iterator[Heartbeats]:
    """Yield the sender of a study's heartbeats; all of them stop at the end of the block."""
    beats = Heartbeats(study)
    try:
        yield beats
    finally:
        for trial_id in list(beats._threads):
            beats.stop(trial_id)


def fail_stale(study: Study) -> None:
    """Fail the trials whose driver is dead, and enqueue their parameters once more."""
    with _experimental():
        fail_stale_trials(study)


@contextmanager
def _experimental() -> Iterator[None]:
    """Silence Optuna's warning that heartbeats are experimental (since 2.9)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
