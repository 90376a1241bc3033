"""The files that jobs write into a run directory, and the lock on it: one process at a time."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from evenhand.errors import EvenhandError, first_few
from evenhand.files import write_text, writing, written_name

RECORD = "run.json"
TABLE_MARK = b"evenhand"
"""The key of Evenhand's metadata in the parquet files of predictions."""
_MODEL = (
    *("model.json", "model.safetensors", "mask.safetensors", "predictions.parquet"),
    "adjustment.json",
)
_FIT = ("fit.json", "trials.json", "probe.json", "external.parquet", "predictions.parquet")
_STUDY = ("study.db", "study.db-journal", "study.db-shm", "study.db-wal")
WRITTEN = (
    *(RECORD, "metrics.json", "verdicts.json", "report.html"),
    *("splits.csv", "seen.csv", "unmatched.csv"),
    *_STUDY,
    *("trials.csv", "search.csv", "search.json", "curve.csv", "pruning.json", "saliency.csv"),
    *("check.json", "similarity.json", "similarity_grid.json", "probe.json", "twins.json"),
    *("groups.csv", "validation/*.parquet"),
    *(f"models/*/{name}" for name in _MODEL),
    *(f"models/*/fits/*/{name}" for name in _MODEL),
    "models/*/seeds/*.parquet",
    *(f"encoders/*/{name}" for name in _MODEL),
    *("pretraining.safetensors", "encoders/*/pretraining.safetensors"),
    *(f"steps/*/{name}" for name in _MODEL),
    *("benchmark.json", "folds.csv", "tensorboard/*/events.out.tfevents.*"),
    *(f"fits/*/*/{name}" for name in _FIT),
    *(f"fits/*/*/*/{name}" for name in _MODEL),
)
"""All files that jobs write, as patterns of paths relative to the run directory."""

WRITERS = {
    **dict.fromkeys(_STUDY, ("tune", "prune")),
    "trials.csv": ("tune",),
    "search.json": ("tune",),
    "search.csv": ("prune",),
    "curve.csv": ("prune", "pretrain"),
    "pruning.json": ("prune",),
    "pretraining.safetensors": ("pretrain",),
    "saliency.csv": ("prune",),
    "unmatched.csv": ("compare",),
    "groups.csv": ("predict",),
    "check.json": ("check", "assess"),
    "similarity.json": ("similarity", "assess"),
    "similarity_grid.json": ("assess",),
    "probe.json": ("finetune", "compare"),
    "twins.json": ("audit", "compare", "predict"),
    "benchmark.json": ("benchmark",),
    "folds.csv": ("benchmark",),
    "tensorboard/*/events.out.tfevents.*": (
        *("finetune", "tune", "pretrain", "prune", "assess", "benchmark"),
    ),
}
"""File in `WRITTEN` → the jobs that write it, for files that not all jobs write."""

WORK = (
    *_STUDY,
    "models/*/model.json",
    "models/*/fits/*/model.json",
    "encoders/*/model.json",
    *("pretraining.safetensors", "encoders/*/pretraining.safetensors"),
    "steps/*/model.json",
    *("fits/*/*/fit.json", "fits/*/*/trials.json"),
    "fits/*/*/*/model.json",
)
"""The files in `WRITTEN` that take long to compute; a later command continues from them."""


@dataclass(frozen=True)
class Contents:
    """The content of a folder, as relative paths; links are not followed.

    Parameters
    ----------
    written
        Files of a run, and links in place of its files or folders.
    temporary
        Temporary files of a run, and the files of its lock.
    folders
        Folders of a run, each before its subfolders.
    strange
        All other paths, which no job writes.
    """

    written: tuple[PurePath, ...]
    temporary: tuple[PurePath, ...]
    folders: tuple[PurePath, ...]
    strange: tuple[PurePath, ...]

    @classmethod
    def of(cls, root: Path) -> Contents:
        """Read the content of a folder; if it does not exist, the content is empty."""
        kinds: dict[str, list[PurePath]] = {"file": [], "part": [], "folder": [], "strange": []}
        for path, kind in _classify_paths(root):
            kinds[kind].append(path)
        return cls(*(tuple(kinds[kind]) for kind in ("file", "part", "folder", "strange")))

    @property
    def work(self) -> tuple[PurePath, ...]:
        """The files from which a later command continues."""
        return tuple(path for path in self.written if _matches(path, WORK))


def remove_run(root: Path) -> None:
    """Remove the files of a run from a folder, ``run.json`` last; targets of links stay.

    Raises
    ------
    EvenhandError
        If the folder also holds files of others; nothing is removed then.
    """
    contents = Contents.of(root)
    if contents.strange:
        raise EvenhandError(
            f"{root} holds files that no run writes: {first_few(contents.strange)}. Nothing was "
            "removed. Move these files away, or name another folder with --out."
        )
    remove_temporary(root)
    with writing(root):
        for path in contents.written:
            if path != PurePath(RECORD):
                (root / path).unlink(missing_ok=True)
        for path in reversed(contents.folders):
            (root / path).rmdir()
        (root / RECORD).unlink(missing_ok=True)


def remove_temporary(root: Path) -> None:
    """Remove the temporary files of a run that this process has locked."""
    for path in Contents.of(root).temporary:
        if path.name not in LOCK_FILES:
            with suppress(OSError):
                (root / path).unlink()


def _classify_paths(root: Path) -> Iterator[tuple[PurePath, str]]:
    """Yield each path below a folder with its kind; strange folders are not entered."""
    job = _job_of(root)
    of_other_jobs = {name for name, jobs in WRITERS.items() if job is not None and job not in jobs}
    patterns = tuple(name for name in WRITTEN if name not in of_other_jobs)
    pending = [PurePath()]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        for entry in entries:
            path = folder / entry.name
            kind = _kind(path, entry, patterns)
            yield path, kind
            if kind == "folder":
                pending.append(path)


def _kind(path: PurePath, entry: os.DirEntry[str], patterns: tuple[str, ...]) -> str:
    is_folder = entry.is_dir(follow_symlinks=False)
    if is_folder and _is_foreign_model(Path(entry.path)):
        return "strange"
    if _is_folder_of_run(path) and (is_folder or entry.is_symlink()):
        return "folder" if is_folder else "file"
    if is_folder:
        return "strange"
    name = written_name(path.name) or path.name
    if name in LOCK_FILES and len(path.parts) == 1:
        return "part"
    if not _matches(path.with_name(name), patterns):
        return "strange"
    return "file" if name == path.name else "part"


def _job_of(root: Path) -> str | None:
    """Return the job of the run in a folder; None without a readable record."""
    with suppress(OSError, ValueError):
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
        job = record.get("job") if isinstance(record, dict) else None
        return job if isinstance(job, str) else None
    return None


def _is_foreign_model(folder: Path) -> bool:
    """Return whether a folder holds a model or predictions that Evenhand did not write.

    A damaged file counts as Evenhand's.
    """
    with suppress(OSError, ValueError):
        record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if not (isinstance(record, dict) and {"schema", "spec"} & record.keys()):
            return True
    predictions = folder / "predictions.parquet"
    return predictions.is_file() and _is_foreign_table(predictions)


def _is_foreign_table(path: Path) -> bool:
    import pyarrow.parquet as pq

    with suppress(OSError, ValueError):  # pyarrow's errors for a damaged file
        return TABLE_MARK not in (pq.read_schema(path.absolute()).metadata or {})
    return False


def _is_folder_of_run(path: PurePath) -> bool:
    depth = len(path.parts)
    deeper = (PurePath(pattern).parts for pattern in WRITTEN if pattern.count("/") >= depth)
    return any(all(map(fnmatchcase, path.parts, parts)) for parts in deeper)


def _matches(path: PurePath, patterns: tuple[str, ...]) -> bool:
    return any(
        len(path.parts) == len(parts) and all(map(fnmatchcase, path.parts, parts))
        for parts in (PurePath(pattern).parts for pattern in patterns)
    )


LOCK, SOFT, HOLDER = ".lock", ".lock.soft", ".lock.json"
LOCK_FILES = (LOCK, SOFT, HOLDER)
_PATIENCE = 1.0  # seconds; `refuse_locked` in another process holds a lock for less
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class Holder:
    """The process that has locked a folder: its number, its machine, the local time of the lock."""

    process: int
    host: str
    since: str

    @classmethod
    def this_process(cls) -> Holder:
        """Return this process as a holder since now."""
        return cls(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))

    @classmethod
    def of(cls, folder: Path) -> Holder | None:
        """Return the holder that the file in a folder names; None without a readable file."""
        try:
            return cls(**json.loads((folder / HOLDER).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Lock an existing folder during the block, so that no other process works in it.

    The operating system locks the file ``.lock`` (``flock``; on NFS also between machines), and
    releases it when the process ends for any reason. On a file system without locks, an existing
    file is the lock. If its process died on this machine, the lock is ignored. If it died on
    another machine, the user must remove the file; the message names it.

    Raises
    ------
    EvenhandError
        If another process works in the folder; the message names the process.
    WriteError
        If the folder cannot be written.
    """
    with writing(folder):
        lock = _acquire(folder)
    try:
        with suppress(OSError):
            write_text(folder / HOLDER, json.dumps(asdict(Holder.this_process())))
        yield
    finally:
        _release(lock, folder)


def refuse_locked(folder: Path) -> None:
    """Refuse a path that another process has locked, or that cannot be a folder.

    The lock of a dead process is removed.

    Raises
    ------
    EvenhandError
        If another process works in the folder; the message names the process.
    WriteError
        If the path cannot be a folder: a file lies there, or the name is too long.
    """
    with writing(folder), suppress(FileNotFoundError):
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if any((folder / name).is_file() for name in (LOCK, SOFT)):
            _release(_acquire(folder), folder)


def _acquire(folder: Path) -> BaseFileLock:
    lock: BaseFileLock = FileLock(folder / LOCK)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flock not supported")
            try:
                lock.acquire(timeout=_PATIENCE)
            except OSError as error:
                if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
                    raise
                lock = SoftFileLock(folder / SOFT)
                lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise EvenhandError(_refusal(folder, lock.lock_file)) from None
    return lock


def _refusal(folder: Path, file: str) -> str:
    holder = Holder.of(folder)
    who = "another process"
    if holder:
        who = f"process {holder.process} on {holder.host} since {holder.since}"
    return (
        f"{who} works in {folder}. Wait until it has ended, or name another folder with --out. If "
        f"its machine is down and the message stays, remove {file}."
    )


def _release(lock: BaseFileLock, folder: Path) -> None:
    """Remove the lock's files, then release it; a waiting process notices that they are gone."""
    for path in (folder / HOLDER, folder / LOCK):
        if str(path) != lock.lock_file or not isinstance(lock, SoftFileLock):
            with suppress(OSError):  # Windows removes no file that is open
                path.unlink(missing_ok=True)
    lock.release()
