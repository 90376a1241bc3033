"""Serve batches from a sample store on the training device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.samples import SampleStore

_CHUNK = 4096  # rows of the store uploaded at a time

# Store → (device, digest of the uploaded rows) → the rows on the device; freed with the store.
_uploaded: WeakKeyDictionary[SampleStore, dict[tuple[torch.device, bytes], Tensor]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples and their classes, on one device."""

    inputs: Tensor  # images (B, C, H, W) uint8 or series (B, C, T) float32, channels last;
    # or augmented or otherwise prepared inputs
    labels: Tensor  # (B,) int64


class BatchProvider(Protocol):
    """Serves batches of the samples of one split."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def take(self, positions: NDArray[np.intp]) -> Batch:
        """Return the samples at some positions in the split, in that order."""


class BatchSource:
    """Serves batches of a stored cohort to one device.

    On a CUDA device, the cohort's rows of the store are uploaded once and shared by all sources, if
    all uploads together fit into half of the otherwise free memory. Else each batch is copied from
    pinned memory while the device works.

    Parameters
    ----------
    cohort
        A cohort whose ``read`` is a sample store (see ``store_samples``).
    device
        The device of the batches.

    Raises
    ------
    TypeError
        If the cohort is not stored.
    """

    def __init__(self, cohort: Cohort, device: torch.device) -> None:
        if not isinstance(cohort.read, SampleStore):
            raise TypeError("batches come from a stored cohort: call store_samples first")
        self.device = device
        self._steps = cohort.read.steps
        self._samples = cohort.read.samples
        self._rows = cohort.read.rows(cohort.table["sample_id"])
        self._labels = torch.from_numpy(cohort.labels.copy()).to(device)
        self._resident: Tensor | None = None
        if device.type == "cuda":
            self._upload(cohort.read)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: NDArray[np.intp]) -> Batch:
        """Return the samples at some positions in the cohort, in that order."""
        store_rows = self._store_rows(self._rows[positions])
        if self._resident is None:
            inputs = self._copy_rows(store_rows)
        else:
            inputs = self._resident[torch.from_numpy(store_rows).to(self.device)]
        return Batch(inputs.movedim(-1, 1), self.labels(positions))

    def labels(self, positions: NDArray[np.intp]) -> Tensor:
        """Return the classes of the samples at some positions, ``(B,)``."""
        return self._labels[torch.from_numpy(positions).to(self.device)]

    def _store_rows(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the rows of samples in the store: ``(B,)`` of images, ``(B, T)`` of series."""
        return rows if self._steps is None else rows[:, None] + np.arange(self._steps)

    def _upload(self, store: SampleStore) -> None:
        """Upload the rows of the samples once; overlapping windows of series share rows."""
        used = np.zeros(len(self._samples), np.bool_)
        for step in range(self._steps or 1):
            used[self._rows + step] = True
        store_rows = np.flatnonzero(used)
        uploaded = _uploaded.setdefault(store, {})
        key = self.device, hashlib.sha256(store_rows.data).digest()
        if key not in uploaded:
            if not self._fits(len(store_rows)):
                return
            uploaded[key] = self._copy_in_chunks(store_rows)
        self._resident, self._rows = uploaded[key], np.searchsorted(store_rows, self._rows)

    def _fits(self, rows: int) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        # CUDA counts the memory that torch has reserved as taken, but torch can use it.
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        held = sum(
            tensor.nbytes
            for kept in _uploaded.values()
            for (device, _), tensor in kept.items()
            if device == self.device
        )
        return bool(held + rows * self._samples[:1].nbytes <= (free + held) // 2)

    def _copy_in_chunks(self, store_rows: NDArray[np.intp]) -> Tensor:
        """Return rows of the store on the device, copied in chunks."""
        rows = self._copy_rows(store_rows[:0]).new_empty(len(store_rows), *self._samples.shape[1:])
        for start in range(0, len(store_rows), _CHUNK):
            rows[start : start + _CHUNK] = self._copy_rows(store_rows[start : start + _CHUNK])
        return rows

    def _copy_rows(self, store_rows: NDArray[np.intp]) -> Tensor:
        """Return rows of the store on the device, gathered on the CPU and copied asynchronously."""
        shape = (*store_rows.shape, *self._samples.shape[1:])
        dtype = torch.uint8 if self._samples.dtype == np.uint8 else torch.float32
        rows = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        # mode="clip" (no index is out of range) avoids numpy's copy through a buffer.
        np.take(self._samples, store_rows, axis=0, out=rows.numpy(), mode="clip")
        return rows.to(self.device, non_blocking=True)
