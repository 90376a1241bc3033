"""Building a sample store: whole or not at all, by one process, continued after a kill."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from evenhand.cohort.cohort import Sample, UnreadableError
from evenhand.cohort.images.decoding import ImageFiles
from evenhand.files import (
    DamagedError,
    checked,
    read_object,
    remove_abandoned,
    write_json,
    write_text,
)
from evenhand.progress import bar

CHUNK = 256  # samples decoded before they are written, and lost when a build is killed
ABANDONED = 24 * 3600.0  # seconds after which a build that nobody went on with is removed
PART, ALONE = ".part-", "-alone-"  # names of folders that are built in; one that nobody resumes
DATA, INDEX, JOURNAL = "samples.bin", "index.json", "journal.jsonl"


@dataclass
class Built:
    """The content of a store so far: how many rows each name has, in order, and failures."""

    stored: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)  # notes on how a sample was read
    row: tuple[int, ...] = (0,)  # shape of one row
    dtype: str = "uint8"

    @classmethod
    def of(cls, folder: Path) -> Built:
        """Read the index of a store.

        Raises
        ------
        DamagedError
            If the index is absent or damaged, or lists more samples than the file of rows holds.
        """
        path = folder / INDEX
        try:
            built = cls(**vars(checked(_Index, read_object(path), path)))
            data = folder / DATA
            if not data.is_file() or data.stat().st_size < built.nbytes:
                raise DamagedError(data, f"it lists more samples than {data} holds")
        except DamagedError as error:
            advice = f"Remove {folder}: the samples are decoded again."
            raise DamagedError(path, error.problem, advice) from None
        return built

    def write(self, folder: Path) -> None:
        """Put the index of a store into its folder."""
        write_json(folder / INDEX, vars(self))

    def __len__(self) -> int:
        """Return how many names have been read, or tried."""
        return len(self.stored) + len(self.unreadable)

    @property
    def nbytes(self) -> int:
        """How long the file of rows is."""
        size = int(np.prod(self.row)) * np.dtype(self.dtype).itemsize
        return sum(self.stored.values()) * size

    def add(self, chunk: Built) -> None:
        """Take in the samples that come next, or that could not be decoded before."""
        self.stored |= chunk.stored
        self.unreadable |= chunk.unreadable
        self.remarks |= chunk.remarks
        for name in chunk.stored:
            self.unreadable.pop(name, None)
        if chunk.stored:
            self.row, self.dtype = tuple(chunk.row), chunk.dtype


class _Index(BaseModel):
    """The fields of `Built`, as a file holds them."""

    model_config = ConfigDict(extra="forbid")

    stored: dict[str, int]
    unreadable: dict[str, str]
    remarks: dict[str, str]
    row: tuple[int, ...]
    dtype: str


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield a folder that takes the name ``folder`` when the block succeeds.

    It is the one that a killed build has left, if there is one: Ctrl-C leaves it, too, any other
    exception removes it. While another process works in it, this one has a folder of its own, and
    the first to end serves both.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder)
    remove_abandoned(folder.with_name(f"{PART}{folder.name}"))
    with _claimed(folder) as part:
        try:
            yield part
            try:
                part.rename(folder)
            except OSError:
                if not folder.exists():  # otherwise another process was first
                    raise
                shutil.rmtree(part, ignore_errors=True)
        except Exception:
            shutil.rmtree(part, ignore_errors=True)
            raise


def build(names: Sequence[str], decode: Callable[[str], Sample], part: Path) -> Built:
    """Decode everything into ``part``.

    What an earlier build there has finished is kept. A chunk counts as finished once it is on
    disk and a line of the journal says so.
    """
    built = _resumed(part)
    with (
        (part / DATA).open("ab") as data,
        (part / JOURNAL).open("a", encoding="utf-8") as journal,
    ):
        data.truncate(built.nbytes)
        for done in _decoded(names, len(built), decode, data):
            journal.write(json.dumps(vars(done)) + "\n")
            _to_disk(journal)
            built.add(done)
    return built


def retry_build(folder: Path, decode: Callable[[str], Sample]) -> Built:
    """Return what a store holds, after another try at what could not be decoded.

    The cause may have passed although the file is the same: no permission, too many open files,
    a decoder that was not installed. What can be decoded now is put behind the other samples, so
    that those who have the store open see no change; the index names it once it is on disk.
    """
    built = Built.of(folder)
    if not built.unreadable or not os.access(folder / DATA, os.W_OK):  # or it is somebody else's
        return built
    with _lock(folder), (folder / DATA).open("r+b") as data:
        built = Built.of(folder)  # another process may have been first
        data.seek(built.nbytes)  # over what a killed try has left
        before = len(built.stored)
        for done in _decoded(list(built.unreadable), 0, decode, data):
            built.add(done)
        if len(built.stored) > before:
            built.write(folder)
    return built


def _decoded(
    names: Sequence[str], start: int, decode: Callable[[str], Sample], data: IO[bytes]
) -> Iterator[Built]:
    """Decode names from a position on; yield what came of each chunk once it is on disk.

    It is done in threads: Pillow lets go of the interpreter lock.
    """
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        bar("decoding samples", len(names)) as advance,
    ):
        advance(start)
        for first in range(start, len(names), CHUNK):
            chunk = names[first : first + CHUNK]
            done = _write(chunk, pool.map(lambda name: _try(decode, name), chunk), data)
            _to_disk(data)
            yield done
            advance(len(chunk))


def _write(
    names: Sequence[str], samples: Iterator[tuple[Sample | UnreadableError, str]], data: IO[bytes]
) -> Built:
    """Write samples one after the other, an image as one row and a series as one per step."""
    done = Built()
    for name, (sample, remark) in zip(names, samples, strict=True):
        if remark:
            done.remarks[name] = remark
        if isinstance(sample, UnreadableError):
            done.unreadable[name] = str(sample)
            continue
        rows = sample[None] if sample.ndim == 3 else sample
        done.stored[name] = len(rows)
        done.row, done.dtype = rows.shape[1:], rows.dtype.name
        data.write(np.ascontiguousarray(rows).data)
    return done


def _try(decode: Callable[[str], Sample], name: str) -> tuple[Sample | UnreadableError, str]:
    """Return a sample, or the error of reading it, and a note on how it was read."""
    try:
        sample = decode(name)
    except UnreadableError as error:
        return error, ""
    return sample, decode.remark(name) if isinstance(decode, ImageFiles) else ""


def _resumed(part: Path) -> Built:
    """Return what the journal in a folder says is finished; a half-written last line is not."""
    built, whole = Built(), ""
    journal, data = part / JOURNAL, part / DATA
    for line in journal.read_text(encoding="utf-8").splitlines(True) if journal.exists() else ():
        with suppress(ValueError):
            built.add(Built(**json.loads(line)))
            whole += line
    if built.nbytes > (data.stat().st_size if data.exists() else 0):
        built, whole = Built(), ""
    write_text(journal, whole)
    return built


@contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    """Yield the shared folder in which a store is built, or a new one while that is in use.

    The process that works in a folder holds the lock of its name.
    """
    name, lock = folder.name, _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = f"{folder.name}{ALONE}{secrets.token_hex(4)}"
        lock = _lock(folder.with_name(name))
        lock.acquire()
    try:
        part = folder.with_name(f"{PART}{name}")
        part.mkdir(exist_ok=True)
        yield part
    finally:
        if ALONE in name:  # nobody else will ever wait for it
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _lock(folder: Path) -> FileLock:
    """Return the lock of those who write to a store."""
    locks = folder.parent.parent / "locks"
    locks.mkdir(exist_ok=True)
    return FileLock(locks / folder.name)


def _clear_abandoned(folder: Path) -> None:
    """Remove folders of other builds, unless a process holds their lock.

    A folder that the same command could continue stays for a day.
    """
    for part in folder.parent.glob(f"{PART}*"):
        if part.name == f"{PART}{folder.name}":
            continue
        lock = _lock(part.with_name(part.name.removeprefix(PART)))
        with suppress(Timeout, FileNotFoundError), lock.acquire(timeout=0):
            written = max(path.stat().st_mtime for path in (part, *part.iterdir()))
            if ALONE in part.name or time.time() - written > ABANDONED:
                shutil.rmtree(part, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)


def _to_disk(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
