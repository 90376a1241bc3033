"""Build a sample store, whole or not at all; a build that was killed can be continued."""

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
from evenhand.files import DamagedError, read_json_record, remove_abandoned, write_json, write_text
from evenhand.progress import bar

CHUNK = 256  # samples that are decoded before they are written; a kill loses at most these
ABANDONED = 24 * 3600.0  # seconds after which a build that was not continued is removed
PART, ALONE = ".part-", "-alone-"  # in names of folders of builds; ALONE: cannot be continued
DATA, INDEX, JOURNAL = "samples.bin", "index.json", "journal.jsonl"


@dataclass
class StoreIndex:
    """The index of a store: the number of rows of each name, in order, and failures."""

    stored: dict[str, int] = field(default_factory=dict)  # name → number of rows
    unreadable: dict[str, str] = field(default_factory=dict)  # name → reason
    remarks: dict[str, str] = field(default_factory=dict)  # name → note on how it was read
    row: tuple[int, ...] = (0,)  # shape of one row
    dtype: str = "uint8"

    @classmethod
    def of(cls, folder: Path) -> StoreIndex:
        """Read the index of a store.

        Raises
        ------
        DamagedError
            If the index is absent or damaged, or lists more samples than the file of rows holds.
        """
        path = folder / INDEX
        try:
            built = cls(**vars(read_json_record(_Index, path)))
            data = folder / DATA
            if not data.is_file() or data.stat().st_size < built.nbytes:
                raise DamagedError(data, f"it lists more samples than {data} holds")
        except DamagedError as error:
            advice = f"Remove {folder}; the samples are then decoded again."
            raise DamagedError(path, error.problem, advice) from None
        return built

    def write(self, folder: Path) -> None:
        """Write the index of a store to its folder."""
        write_json(folder / INDEX, vars(self))

    def __len__(self) -> int:
        """Return the number of names that have been decoded or failed."""
        return len(self.stored) + len(self.unreadable)

    @property
    def nbytes(self) -> int:
        """The size of the file of rows in bytes."""
        size = int(np.prod(self.row)) * np.dtype(self.dtype).itemsize
        return sum(self.stored.values()) * size

    def add(self, chunk: StoreIndex) -> None:
        """Add a chunk: samples that follow, or that could not be decoded before."""
        self.stored |= chunk.stored
        self.unreadable |= chunk.unreadable
        self.remarks |= chunk.remarks
        for name in chunk.stored:
            self.unreadable.pop(name, None)
        if chunk.stored:
            self.row, self.dtype = tuple(chunk.row), chunk.dtype


class _Index(BaseModel):
    """The content of the index file: the fields of `StoreIndex`."""

    model_config = ConfigDict(extra="forbid")

    stored: dict[str, int]
    unreadable: dict[str, str]
    remarks: dict[str, str]
    row: tuple[int, ...]
    dtype: str


@contextmanager
def new_store(folder: Path) -> Iterator[Path]:
    """Yield a folder that is renamed to ``folder`` when the block succeeds.

    After a kill or Ctrl-C, the next call yields the same folder again. Any other exception removes
    the folder. If another process works in it, this process gets a folder of its own; the folder
    that is complete first is renamed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder)
    remove_abandoned(folder.with_name(f"{PART}{folder.name}"))
    with _lock_part(folder) as part:
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


def decode_samples(names: Sequence[str], decode: Callable[[str], Sample], part: Path) -> StoreIndex:
    """Decode all samples into the folder ``part``, and return the index.

    Chunks that an earlier build has finished are kept. A chunk is finished when it is on disk and
    has a line in the journal.
    """
    built = _read_journal(part)
    with (
        (part / DATA).open("ab") as data,
        (part / JOURNAL).open("a", encoding="utf-8") as journal,
    ):
        data.truncate(built.nbytes)
        for chunk in _decode_chunks(names, len(built), decode, data):
            journal.write(json.dumps(vars(chunk)) + "\n")
            _sync(journal)
            built.add(chunk)
    return built


def decode_again(folder: Path, decode: Callable[[str], Sample]) -> StoreIndex:
    """Decode again the samples that could not be decoded, and return the index of the store.

    The cause may be gone although the file is the same: no permission, too many open files, a
    decoder that was not installed. New samples are appended, so that other processes can go on
    reading the store. The index lists them when they are on disk.
    """
    built = StoreIndex.of(folder)
    if not built.unreadable or not os.access(folder / DATA, os.W_OK):  # another user's store
        return built
    with _lock(folder), (folder / DATA).open("r+b") as data:
        built = StoreIndex.of(folder)  # another process may have been first
        data.seek(built.nbytes)  # what a killed process wrote after this is overwritten
        before = len(built.stored)
        for chunk in _decode_chunks(list(built.unreadable), 0, decode, data):
            built.add(chunk)
        if len(built.stored) > before:
            built.write(folder)
    return built


def _decode_chunks(
    names: Sequence[str], start: int, decode: Callable[[str], Sample], data: IO[bytes]
) -> Iterator[StoreIndex]:
    """Decode names from the index ``start``; yield each chunk when it is on disk.

    Threads decode in parallel, because Pillow releases the interpreter lock.
    """
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        bar("decoding samples", len(names)) as advance,
    ):
        advance(start)
        for first in range(start, len(names), CHUNK):
            chunk = names[first : first + CHUNK]
            written = _write_samples(
                chunk, pool.map(lambda name: _decode_sample(decode, name), chunk), data
            )
            _sync(data)
            yield written
            advance(len(chunk))


def _write_samples(
    names: Sequence[str], samples: Iterator[tuple[Sample | UnreadableError, str]], data: IO[bytes]
) -> StoreIndex:
    """Write samples one after the other: an image is one row, a series a row for each step."""
    written = StoreIndex()
    for name, (sample, remark) in zip(names, samples, strict=True):
        if remark:
            written.remarks[name] = remark
        if isinstance(sample, UnreadableError):
            written.unreadable[name] = str(sample)
            continue
        rows = sample[None] if sample.ndim == 3 else sample
        written.stored[name] = len(rows)
        written.row, written.dtype = rows.shape[1:], rows.dtype.name
        data.write(np.ascontiguousarray(rows).data)
    return written


def _decode_sample(
    decode: Callable[[str], Sample], name: str
) -> tuple[Sample | UnreadableError, str]:
    """Return a sample or its error, and a note on how it was read."""
    try:
        sample = decode(name)
    except UnreadableError as error:
        return error, ""
    return sample, decode.remark(name) if isinstance(decode, ImageFiles) else ""


def _read_journal(part: Path) -> StoreIndex:
    """Return the finished chunks that the journal of a folder lists; repair its last line."""
    built, whole = StoreIndex(), ""
    journal, data = part / JOURNAL, part / DATA
    for line in journal.read_text(encoding="utf-8").splitlines(True) if journal.exists() else ():
        with suppress(ValueError):
            built.add(StoreIndex(**json.loads(line)))
            whole += line
    if built.nbytes > (data.stat().st_size if data.exists() else 0):
        built, whole = StoreIndex(), ""
    write_text(journal, whole)
    return built


@contextmanager
def _lock_part(folder: Path) -> Iterator[Path]:
    """Yield the shared folder of a store's build, or a new folder if another process uses it.

    The process that works in a folder holds the lock of the folder's name.
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
        if ALONE in name:  # no other process can wait for this lock
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _lock(folder: Path) -> FileLock:
    """Return the lock for writing to a store."""
    locks = folder.parent.parent / "locks"
    locks.mkdir(exist_ok=True)
    return FileLock(locks / folder.name)


def _clear_abandoned(folder: Path) -> None:
    """Remove folders of other builds, unless a process holds their lock.

    Folders that a later command could continue stay for a day.
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


def _sync(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
