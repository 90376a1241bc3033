"""Activations of frozen layers, computed once: in memory, and for the CPU on disk behind it."""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.files import WriteError, remove_abandoned, replacing

MEGABYTE = 10**6
STALE = 3600  # seconds after which a half-written file has no writer any more


@dataclass(eq=False)
class ActivationCache:
    """Arrays of activations by name, one row per sample, in the memory of the device that trains.

    Trials and epochs share them. Those that were not used for longest make room. So they are kept
    for a GPU, which computes them again faster than a disk takes or gives them.
    """

    memory: int  # bytes
    _held: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, init=False)
    _alive: WeakValueDictionary[str, Tensor] = field(
        default_factory=WeakValueDictionary, init=False
    )  # those held, and those that make room but are still in somebody's hands

    def find(self, name: str) -> ActivationRows | None:
        """Return the array of that name; None where it was never made, or has made room."""
        cached = self._alive.get(name)
        return None if cached is None else self._hold(name, cached)

    def make(self, name: str, count: int, chunks: Callable[[], Iterator[Tensor]]) -> None:
        """Keep the array of that name, of ``count`` rows in all, chunk by chunk."""
        start, rows = 0, None
        for chunk in chunks():
            if rows is None:
                self._make_room(count * _row_size(chunk))
                rows = chunk.new_empty(count, *chunk.shape[1:])
            rows[start : start + len(chunk)] = chunk
            start += len(chunk)
        assert rows is not None
        assert start == count
        self._hold(name, rows)

    def check(self, sample: Tensor, batch_size: int) -> None:
        """Refuse a budget that one batch of such activations, ``(B, …)``, does not fit into.

        Raises
        ------
        EvenhandError
            The message says how much a batch needs.
        """
        needed = batch_size * _row_size(sample)
        if needed > self.memory:
            raise EvenhandError(
                f"--prefix-memory {self.memory // MEGABYTE}: one batch of {batch_size} takes "
                f"{needed / MEGABYTE:.1f} MB of activations. Give {-(-needed // MEGABYTE)} at "
                "least, a smaller --batch-size, or 0 to do without kept activations."
            )

    def room(self, sample: Tensor, count: int, beside: int) -> int:
        """Return how many arrays of ``count`` rows like those of a sample may be kept.

        They lie there beside one of ``beside`` rows.
        """
        return max(0, self._size // _row_size(sample) - beside) // count

    def spares(self, rows: ActivationRows) -> bool:
        """Whether others like these fit beside them, so that they may be computed from them."""
        return 2 * rows.held.nbytes <= self.memory

    @property
    def _size(self) -> int:
        return self.memory

    def _hold(self, name: str, rows: Tensor) -> ActivationRows:
        self._held[name] = self._alive[name] = rows
        self._held.move_to_end(name)
        return ActivationRows(rows)

    def _make_room(self, wanted: int) -> bool:
        """Let go of arrays until ``wanted`` more bytes are allowed; say whether they are."""
        if wanted > self.memory:
            return False
        while self._held and self._in_memory() + wanted > self.memory:
            self._held.popitem(last=False)
        return self._in_memory() + wanted <= self.memory

    def _in_memory(self) -> int:
        return sum(tensor.nbytes for tensor in self._alive.values())


@dataclass(eq=False)
class ActivationFiles(ActivationCache):
    """The same as memory-mapped files, for the CPU; processes share them, too.

    Each is read into memory where it fits into the budget beside those that are in use. Otherwise
    it is read from the map, batch by batch. On disk, too, those that were not used for longest make
    room.
    """

    folder: Path
    disk: int  # bytes

    def find(self, name: str) -> ActivationRows | None:
        """Return the array of that name; None where it was never made, or has made room."""
        if (cached := super().find(name)) is not None:
            return cached
        try:
            mapped = ActivationRows(_open(self._path(name)))
        except (FileNotFoundError, ValueError, EOFError):  # absent, or damaged: it is made again
            return None
        return self._hold(name, mapped.all()) if self._make_room(mapped.held.nbytes) else mapped

    def make(self, name: str, count: int, chunks: Callable[[], Iterator[Tensor]]) -> None:
        """Write the array of that name, of ``count`` rows in all, chunk by chunk.

        Raises
        ------
        EvenhandError
            The disk is full or cannot be written.
        """
        remove_abandoned(self.folder)
        try:
            with replacing(self._path(name)) as part:
                _write(part, count, chunks(), self._make_room_on_disk)
        except WriteError as error:
            raise EvenhandError(
                f"activations cannot be kept in {self.folder}: {error.reason}. Make room, name "
                "another folder with --cache, or do without with --prefix-memory 0."
            ) from error

    def spares(self, rows: ActivationRows) -> bool:
        """Whether others may be computed from these: always, as they go to the disk."""
        return True

    @property
    def _size(self) -> int:
        return self.disk

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"

    def _make_room_on_disk(self, wanted: int) -> None:
        """Remove files that were not used for longest until ``wanted`` more bytes are allowed."""
        files = sorted(_files(self.folder))
        total = sum(size for _, size, _ in files)
        for changed, size, path in files:
            if total + wanted <= self.disk:
                return
            if path.suffix == ".npy" or changed < time.time() - STALE:
                path.unlink(missing_ok=True)  # whoever has it mapped keeps what is in it
                total -= size


@dataclass(frozen=True, eq=False)
class ActivationRows:
    """Rows of activations, in memory or mapped from disk."""

    held: Tensor | NDArray[Any]

    def take(self, positions: NDArray[np.intp]) -> Tensor:
        """Return some rows, on the device that trains."""
        if isinstance(self.held, Tensor):
            return self.held[torch.from_numpy(positions).to(self.held.device)]
        return _tensor(self.held[positions])

    def all(self) -> Tensor:
        """Return every row, in memory."""
        return self.take(np.arange(len(self.held)))


def _write(
    part: Path, count: int, chunks: Iterator[Tensor], make_room: Callable[[int], None]
) -> None:
    """Write an ``.npy`` file; bfloat16, which numpy lacks, goes into it as int16."""
    start = 0
    with part.open("wb") as file:
        for chunk in chunks:
            bits = chunk.cpu()
            rows = (bits.view(torch.int16) if bits.dtype == torch.bfloat16 else bits).numpy()
            if start == 0:
                make_room(count * rows[:1].nbytes)
                header = {"descr": rows.dtype.str, "fortran_order": False}
                np.lib.format.write_array_header_1_0(
                    file, {**header, "shape": (count, *rows.shape[1:])}
                )
            file.write(np.ascontiguousarray(rows).data)
            start += len(rows)
    assert start == count


def _open(path: Path) -> NDArray[Any]:
    os.utime(path)  # it is in use
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def _tensor(rows: NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(rows))
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


def _row_size(sample: Tensor) -> int:
    return sample[0].numel() * sample.element_size()


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield when each file was last used, its bytes, and its path; others remove files, too."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path
