"""The storage of a study, and access to it for workers and other drivers."""

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
from evenhand.experiments.study_serving import StudyProxy, reason_of, served
from evenhand.files import DamagedError
from evenhand.workers import MeetingPoint

HEARTBEAT = 30  # seconds between the signs of life of a trial on a database server
GRACE = 120  # seconds without one after which its driver counts as dead
_LOCKED = 60  # seconds that SQLite waits for another connection to end its writing
_PATIENCE = 30.0  # seconds in which a worker has to reach the study


def open_storage(url: str) -> BaseStorage:
    """Open a storage, or make it. On a database server its running trials have heartbeats.

    Parameters
    ----------
    url
        Any URL that Optuna takes (``sqlite:///FILE``, ``postgresql://…``).

    Raises
    ------
    EvenhandError
        The URL cannot be opened, or holds tables of another program; nothing is written then.
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
            kept = RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=None if in_file else HEARTBEAT,
                grace_period=None if in_file else GRACE,
                heartbeat_stale_trial_callback=try_again,
            )
    except ImportError as error:
        raise EvenhandError(
            f"--storage {shown} needs the database's driver, here and wherever workers run: "
            f"{error.__cause__ or error}"
        ) from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ValueError) as error:
        raise EvenhandError(
            f"--storage {shown} cannot be opened as a storage of Optuna {optuna.__version__}: "
            f"{str(error).strip().splitlines()[0]}. Name another, or leave it out."
        ) from None
    return get_storage(kept)


def open_run_storage(run: Run) -> BaseStorage:
    """Open the storage in a run directory, ``study.db``, or make it.

    Raises
    ------
    EvenhandError
        It cannot be written, or is damaged; so it is if it is absent although it has been there.
    """
    path = run.root.resolve() / "study.db"
    if run.record.study and not (path.is_file() and path.stat().st_size):
        state = "it is empty" if path.is_file() else "there is no such file"
        raise DamagedError(path, f"{state}, although the search has begun")
    try:
        storage = open_storage(URL.create("sqlite", database=str(path)).render_as_string())
    except EvenhandError as error:
        source = error.__context__
        cause = getattr(source, "orig", None)
        if isinstance(cause, sqlite3.OperationalError):
            raise EvenhandError(_unwritable(str(path), str(cause))) from error
        raise DamagedError(path, reason_of(source or error)) from error
    run.note(study=path.name)
    return storage


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Turn the errors of a storage in the block into one text.

    Parameters
    ----------
    where
        The storage's file or URL, for the text.

    Raises
    ------
    EvenhandError
        The storage cannot be read or written: the disk is full, or the server is gone.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, grpc.RpcError) as error:
        raise EvenhandError(_unwritable(_without_password(where), reason_of(error))) from error


def _unwritable(where: str, reason: str) -> str:
    return (
        f"the study in {where} cannot be read or written: {reason}. Finished trials are kept. Fix "
        "that (make room, for example), and give the same command again."
    )


def _without_password(url: str) -> str:
    return re.sub(r"(//[^:/@]*):.*@", r"\1:***@", url)


def _check_tables(url: str, options: dict[str, Any]) -> None:
    """Refuse a database whose tables Optuna would take for its own, or would add its own to.

    Tables of an earlier Optuna are for Optuna itself to refuse; some of its tables alone are what a
    kill left.

    Raises
    ------
    RuntimeError
        There are tables and none is Optuna's, one of its names has other columns, or a later Optuna
        made them.
    """
    engine = create_engine(url, **options)
    try:
        inspector = inspect(engine)
        there = inspector.get_table_names()
        tables = {table.name: table for table in BaseModel.metadata.sorted_tables}
        named = [name for name in there if name in tables]
        whole = [
            name
            for name in named
            if set(tables[name].columns.keys())
            <= {column["name"] for column in inspector.get_columns(name)}
        ]
        if VersionInfoModel.__tablename__ in whole:
            _check_version(engine)
        elif there and (not named or whole != named):
            raise RuntimeError(f"it holds tables of another program ({', '.join(there)})")
    finally:
        engine.dispose()


def _check_version(engine: Engine) -> None:
    with Session(engine) as session:
        info = VersionInfoModel.find(session)
        if info is not None and info.schema_version > SCHEMA_VERSION:
            raise RuntimeError(f"a later Optuna, {info.library_version}, made its tables")


def begin_trial(study: Study) -> Trial:
    """Begin a trial; :class:`Heartbeats` gives the signs of life that Optuna warns it lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        return study.ask()


def try_again(study: Study, trial: FrozenTrial) -> None:
    """Enqueue the parameters of a failed trial, unless they have been tried twice."""
    if "retry_of" not in trial.user_attrs:
        kept = {name: v for name, v in trial.user_attrs.items() if name == "origin"}
        study.enqueue_trial(trial.params, user_attrs={**kept, "retry_of": trial.number})


@contextmanager
def reachable(study: Study, place: MeetingPoint | None) -> Iterator[Study]:
    """Yield a study as workers see it; they can report to it, and be told to stop.

    A study in a file is served by Optuna's gRPC proxy as long as the block runs, since a file can
    be written safely by processes of one machine at most. Workers of a database server go there.

    Parameters
    ----------
    study
        The study as the driver sees it.
    place
        Where workers meet this process; None if they run in it.
    """
    storage = study._storage
    if place is None or is_heartbeat_enabled(storage):
        yield _as_seen(study, storage)
        return
    with served(storage, place) as access:
        proxy = StudyProxy(access)
        try:
            yield _as_seen(study, proxy)
        finally:
            proxy.close()  # first: it would tell the terminal that its server goes away


def _as_seen(study: Study, storage: BaseStorage) -> Study:
    return optuna.load_study(
        study_name=study.study_name,
        storage=storage,
        sampler=RandomSampler(),  # workers draw nothing
        pruner=study.pruner,
    )


def check_reached(study: Study) -> None:
    """Refuse to start a trial in a worker that cannot tell the study of it.

    Raises
    ------
    EvenhandError
        The driver's proxy does not answer.
    """
    storage = study._storage
    if isinstance(storage, StudyProxy):
        try:
            storage.wait_server_ready(_PATIENCE)
        except ConnectionError:
            raise EvenhandError(
                f"a worker on {socket.gethostname()} cannot reach the study that this command "
                f"serves at {storage.access.target}. Let the nodes connect there, see that a "
                "--tls-certificate is made out to that address, or keep the study on a database "
                "server that all of them reach: --storage URL."
            ) from None


class Heartbeats:
    """Signs of life, on a database server, of the trials that this driver has at work."""

    def __init__(self, study: Study) -> None:
        self._storage = study._storage
        self._threads: dict[int, BaseHeartbeatThread] = {}

    def start(self, trial_id: int) -> None:
        """Give signs from now on; a storage in a file takes none."""
        self._threads[trial_id] = get_heartbeat_thread(trial_id, self._storage)
        self._threads[trial_id].start()

    def stop(self, trial_id: int) -> None:
        """Give no more of them."""
        self._threads.pop(trial_id).join()


@contextmanager
def heartbeats(study: Study) -> Iterator[Heartbeats]:
    """Yield the signs of life of trials; all of them stop with the block."""
    beats = Heartbeats(study)
    try:
        yield beats
    finally:
        for trial_id in list(beats._threads):
            beats.stop(trial_id)


def fail_stale(study: Study) -> None:
    """Fail the trials whose driver is gone, and enqueue their parameters once more."""
    with _experimental():
        fail_stale_trials(study)


@contextmanager
def _experimental() -> Iterator[None]:
    """Use what Optuna calls experimental since 2.9: heartbeats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
