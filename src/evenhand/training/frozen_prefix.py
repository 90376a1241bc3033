"""Caches of activations of frozen layers: in memory, and for the CPU also on disk."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError, first_few
from evenhand.files import WriteError, remove_abandoned, replacing
from evenhand.networks.layers import Pool, record_activations
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.training.predict import BATCH, channels_last, to_unit_range

HEAD_INPUT = "head input"
"""Name that stands, among layers, for the head's input."""


def activations(
    model: Model,
    cohort: Cohort,
    layers: Sequence[str],
    accelerator: Accelerator,
    pool: Pool = "auto",
) -> dict[str, NDArray[np.float32]]:
    """Return the activations ``(n, D)`` of layers on a stored cohort, in its order, from one pass.

    The model is put on the accelerator's device and into evaluation mode.

    Parameters
    ----------
    model
        The model.
    cohort
        The cohort, with a sample store behind it.
    layers
        Names from `layer_names`; also `HEAD_INPUT`.
    accelerator
        Device and precision.
    pool
        How the outputs of a layer become one row per sample; see `record_activations`.
    """
    model = model.to(accelerator.device).eval()
    source = BatchSource(cohort, accelerator.device)
    by_layer: dict[str, NDArray[np.float32]] = {}
    with (
        torch.inference_mode(),
        accelerator.autocast(),
        record_activations(model, [name for name in layers if name != HEAD_INPUT], pool) as outputs,
        bar("reading layers", len(source)) as advance,
    ):
        for start in range(0, len(source), BATCH):
            positions = np.arange(start, min(start + BATCH, len(source)))
            inputs = channels_last(to_unit_range(source.take(positions).inputs))
            outputs[HEAD_INPUT] = model.features(inputs)
            if unused := [name for name in layers if name not in outputs]:
                raise EvenhandError(
                    f"the layers {first_few(unused)} of {model.spec.backbone} did not run on a "
                    "batch, so they have no representations. Name other layers with --layer."
                )
            for name in layers:
                rows = outputs[name].float().cpu().numpy()
                if name not in by_layer:
                    by_layer[name] = np.empty((len(source), rows.shape[1]), np.float32)
                by_layer[name][positions] = rows
            advance(len(positions))
    return by_layer


MEGABYTE = 10**6
STALE = 3600  # seconds after which an unfinished file counts as abandoned


@dataclass(eq=False)
class ActivationCache:
    """Arrays of activations by name, one row per sample, in the memory of the training device.

    Trials and epochs share the arrays. The least recently used ones are evicted. This cache is for
    a GPU, which computes activations faster than a disk reads or writes them.
    """

    memory: int  # bytes
    _recent: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, init=False)
    _alive: WeakValueDictionary[str, Tensor] = field(
        default_factory=WeakValueDictionary, init=False
    )  # the cached arrays, and evicted ones that are still in use

    def find(self, name: str) -> ActivationRows | None:
        """Return the array with a name; None if it was never made, or was evicted."""
        cached = self._alive.get(name)
        return None if cached is None else self._store(name, cached)

    def make(self, name: str, count: int, chunks: Callable[[], Iterator[Tensor]]) -> None:
        """Store an array of ``count`` rows under a name; it is computed chunk by chunk."""
        start, rows = 0, None
        for chunk in chunks():
            if rows is None:
                self._make_room(count * _row_size(chunk))
                rows = chunk.new_empty(count, *chunk.shape[1:])
            rows[start : start + len(chunk)] = chunk
            start += len(chunk)
        assert rows is not None
        assert start == count
        self._store(name, rows)

    def check(self, sample: Tensor, batch_size: int) -> None:
        """Check that the activations of a batch fit into memory, by those of a sample ``(B, …)``.

        Raises
        ------
        EvenhandError
            If it does not fit; the message says how much a batch needs.
        """
        needed = batch_size * _row_size(sample)
        if needed > self.memory:
            raise EvenhandError(
                f"--prefix-memory {self.memory // MEGABYTE}: one batch of {batch_size} takes "
                f"{needed / MEGABYTE:.1f} MB of activations. Give at least "
                f"{math.ceil(needed / MEGABYTE)}, a smaller --batch-size, or 0 to cache none."
            )

    def count_fitting(self, sample: Tensor, count: int, reserved: int) -> int:
        """Return how many arrays of ``count`` rows fit beside ``reserved`` other rows.

        Each row is as large as a row of ``sample``.
        """
        return max(0, self._capacity // _row_size(sample) - reserved) // count

    def fits_beside(self, rows: ActivationRows) -> bool:
        """Return whether these rows and a second array of their size fit together."""
        return 2 * rows.values.nbytes <= self.memory

    @property
    def _capacity(self) -> int:
        return self.memory

    def _store(self, name: str, rows: Tensor) -> ActivationRows:
        self._recent[name] = self._alive[name] = rows
        self._recent.move_to_end(name)
        return ActivationRows(rows)

    def _make_room(self, size: int) -> bool:
        """Evict arrays until ``size`` more bytes fit; return whether they do."""
        if size > self.memory:
            return False
        while self._recent and self._in_memory() + size > self.memory:
            self._recent.popitem(last=False)
        return self._in_memory() + size <= self.memory

    def _in_memory(self) -> int:
        return sum(tensor.nbytes for tensor in self._alive.values())


@dataclass(eq=False)
class ActivationFiles(ActivationCache):
    """Arrays of activations as memory-mapped files, for the CPU; processes share them.

    An array is read into memory if it fits beside the arrays in use; otherwise it is read from the
    file, batch by batch. In memory and on disk, the least recently used arrays are evicted.
    """

    folder: Path
    disk: int  # bytes

    def find(self, name: str) -> ActivationRows | None:
        """Return the array with a name; None if it was never made, or was evicted."""
        if (cached := super().find(name)) is not None:
            return cached
        try:
            mapped = ActivationRows(_open(self._path(name)))
        except (FileNotFoundError, ValueError, EOFError):
            return None  # absent or damaged: the caller makes it again
        if not self._make_room(mapped.values.nbytes):
            return mapped
        return self._store(name, mapped.read_all())

    def make(self, name: str, count: int, chunks: Callable[[], Iterator[Tensor]]) -> None:
        """Write an array of ``count`` rows under a name; it is computed chunk by chunk.

        Raises
        ------
        EvenhandError
            If the disk is full or cannot be written.
        """
        remove_abandoned(self.folder)
        try:
            with replacing(self._path(name)) as part:
                _write(part, count, chunks(), self._make_room_on_disk)
        except WriteError as error:
            raise EvenhandError(
                f"activations cannot be kept in {self.folder}: {error.reason}. Make room, "
                "name another folder with --cache, or cache none with --prefix-memory 0."
            ) from error

    def fits_beside(self, rows: ActivationRows) -> bool:
        """Return True: arrays that do not fit into memory go to the disk."""
        return True

    @property
    def _capacity(self) -> int:
        return self.disk

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"

    def _make_room_on_disk(self, size: int) -> None:
        """Remove the least recently used files until ``size`` more bytes fit."""
        files = sorted(_files(self.folder))
        total = sum(old_size for _, old_size, _ in files)
        for used, old_size, path in files:
            if total + size <= self.disk:
                return
            is_unfinished = path.suffix != ".npy" and used >= time.time() - STALE
            if not is_unfinished:  # another process still writes an unfinished file
                path.unlink(missing_ok=True)  # a process that has mapped it can still read it
                total -= old_size


@dataclass(frozen=True, eq=False)
class ActivationRows:
    """Rows of activations, in memory or mapped from disk."""

    values: Tensor | NDArray[Any]

    def take(self, positions: NDArray[np.intp]) -> Tensor:
        """Return some rows, on the device of the rows (the CPU for a file)."""
        if isinstance(self.values, Tensor):
            return self.values[torch.from_numpy(positions).to(self.values.device)]
        return _tensor(self.values[positions])

    def read_all(self) -> Tensor:
        """Return all rows, in memory."""
        return self.take(np.arange(len(self.values)))


def _write(
    part: Path, count: int, chunks: Iterator[Tensor], make_room: Callable[[int], None]
) -> None:
    """Write an ``.npy`` file; bfloat16, which numpy lacks, is written as int16."""
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
    os.utime(path)  # marks it as used
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def _tensor(rows: NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(rows))
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


def _row_size(sample: Tensor) -> int:
    return sample[0].numel() * sample.element_size()


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield time of last use, bytes and path of each file; other processes may remove files."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path
