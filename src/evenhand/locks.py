"""Lock folders, so that one process works in a folder at a time, and others see its name."""

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
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from evenhand.errors import EvenhandError
from evenhand.files import write_text, writing

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
