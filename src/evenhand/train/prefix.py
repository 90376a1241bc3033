"""Activations of frozen layers: computed once, on disk, with as many as may be in memory."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.files import replacing

MEGABYTE = 10**6


@dataclass(eq=False)
class ActivationCache:
    """Arrays of activations by name, one row per sample, shared by trials, epochs and processes.

    Each is a memory-mapped file. It is read into memory, on the device that asks for it, while it
    fits into the budget, and then those that were not used for longest make room; a larger one is
    read from the map, batch by batch. On disk, too, those that were not used for longest make room.
    """

    folder: Path
    memory: int  # bytes
    disk: int  # bytes
    _held: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, init=False)

    def holds(self, name: str) -> bool:
        """Whether the array of that name has been made."""
        return name in self._held or self._path(name).exists()

    def rows(self, name: str, device: torch.device) -> Rows:
        """Return the array of that name, which has been made."""
        if name not in self._held:
            mapped = _open(self._path(name))
            if mapped.nbytes > self.memory:
                return Rows(mapped, device)
            while self._held and sum(map(_size, self._held.values())) + mapped.nbytes > self.memory:
                self._held.popitem(last=False)
            self._held[name] = Rows(mapped, device).all()
        self._held.move_to_end(name)
        return Rows(self._held[name], device)

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
                _write(part, count, chunks(), self._make_room)
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
        needed = batch_size * _size(sample) // len(sample)
        if needed > self.memory:
            raise EvenhandError(
                f"--prefix-memory {self.memory // MEGABYTE}: one batch of {batch_size} takes "
                f"{needed / MEGABYTE:.1f} MB of activations. Give {-(-needed // MEGABYTE)} at "
                "least, a smaller --batch-size, or 0 to do without kept activations."
            )

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"

    def _make_room(self, wanted: int) -> None:
        """Remove files that were not used for longest until ``wanted`` more bytes are allowed."""
        files = sorted(self.folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
        sizes = [path.stat().st_size for path in files]
        while files and sum(sizes) + wanted > self.disk:
            files.pop(0).unlink(missing_ok=True)  # whoever has it mapped keeps what is in it
            sizes.pop(0)


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


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
