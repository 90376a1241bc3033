"""Activations of frozen layers: computed once, on disk, with as many as may be in memory."""

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
from evenhand.files import replacing

MEGABYTE = 10**6
STALE = 3600  # seconds after which a half-written file has no writer any more


@dataclass(eq=False)
class ActivationCache:
    """Arrays of activations by name, one row per sample, shared by trials, epochs and processes.

    Each is a memory-mapped file. It is read into memory, on the device that asks for it, where it
    fits into the budget beside those that are in use; those that were not used for longest make
    room. Otherwise it is read from the map, batch by batch. On disk, too, those that were not used
    for longest make room.
    """

    folder: Path
    memory: int  # bytes
    disk: int  # bytes
    _held: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, init=False)
    _alive: WeakValueDictionary[str, Tensor] = field(
        default_factory=WeakValueDictionary, init=False
    )  # those held, and those that make room but are still in somebody's hands

    def find(self, name: str, device: torch.device) -> Rows | None:
        """Return the array of that name; None where it was never made, or has made room."""
        found = self._alive.get(name)
        if found is None:
            try:
                mapped = _open(self._path(name))
            except FileNotFoundError:
                return None
            if not self._room_in_memory(mapped.nbytes):
                return Rows(mapped, device)
            found = self._alive[name] = Rows(mapped, device).all()
        self._held[name] = found
        self._held.move_to_end(name)
        return Rows(found, device)

    def make(self, name: str, count: int, chunks: Callable[[], Iterator[Tensor]]) -> None:
        """Write the array of that name, of ``count`` rows in all, chunk by chunk.

        Raises
        ------
        EvenhandError
            The disk is full or cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(self._path(name)) as part:
                _write(part, count, chunks(), self._room_on_disk)
        except OSError as error:
            raise EvenhandError(
                f"activations cannot be kept in {self.folder}: {error}. Make room, name another "
                "folder with --cache, or do without with --prefix-memory 0."
            ) from error

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
        """Return how many arrays of ``count`` rows like those of a sample the disk may hold.

        They lie there beside one of ``beside`` rows.
        """
        return max(0, self.disk // _row_size(sample) - beside) // count

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"

    def _room_in_memory(self, wanted: int) -> bool:
        """Let go of arrays until ``wanted`` more bytes are allowed; say whether they are."""
        if wanted > self.memory:
            return False
        while self._held and self._in_memory() + wanted > self.memory:
            self._held.popitem(last=False)
        return self._in_memory() + wanted <= self.memory

    def _in_memory(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._alive.values())

    def _room_on_disk(self, wanted: int) -> None:
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
class Rows:
    """Rows of activations, in memory or mapped from disk."""

    held: Tensor | NDArray[Any]
    device: torch.device

    def take(self, positions: NDArray[np.intp]) -> Tensor:
        """Return some rows, on the device."""
        if isinstance(self.held, Tensor):
            return self.held[torch.from_numpy(positions).to(self.held.device)]
        return _tensor(self.held[positions]).to(self.device)

    def all(self) -> Tensor:
        """Return every row, in memory on the device."""
        return self.take(np.arange(len(self.held)))


def _write(
    part: Path, count: int, chunks: Iterator[Tensor], make_room: Callable[[int], None]
) -> None:
    """Write an ``.npy`` file; bfloat16, which numpy lacks, goes into it as int16."""
    start, file = 0, None
    for chunk in chunks:
        bits = chunk.cpu()
        rows = (bits.view(torch.int16) if bits.dtype == torch.bfloat16 else bits).numpy()
        if file is None:
            make_room(count * rows[:1].nbytes)
            file = part.open("wb")
            header = {"descr": rows.dtype.str, "fortran_order": False}
            np.lib.format.write_array_header_1_0(
                file, {**header, "shape": (count, *rows.shape[1:])}
            )
        file.write(np.ascontiguousarray(rows).data)
        start += len(rows)
    assert file is not None
    assert start == count
    file.close()


def _open(path: Path) -> NDArray[Any]:
    os.utime(path)  # it is in use
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def _tensor(rows: NDArray[Any]) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(rows))
    return found.view(torch.bfloat16) if found.dtype == torch.int16 else found


def _row_size(sample: Tensor) -> int:
    return sample[0].numel() * sample.element_size()


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield when each file was last used, its bytes, and its path; others remove files, too."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path
