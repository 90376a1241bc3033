"""Batches on the training device, out of a sample store."""

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

# What lies on devices, by a digest of its rows in the store; it goes with the store.
_uploaded: WeakKeyDictionary[SampleStore, dict[tuple[torch.device, bytes], Tensor]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples and their classes, on the device that they were asked for."""

    inputs: Tensor  # images (B, C, H, W) uint8 or series (B, C, T) float32, channels last;
    # or what training has made of them
    labels: Tensor  # (B,) int64


class BatchProvider(Protocol):
    """Serves batches of the samples of one split."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def take(self, positions: NDArray[np.intp]) -> Batch:
        """Return the samples at some positions in the split, in that order."""


class BatchSource:
    """Serves batches of a stored cohort to one device.

    On a CUDA device what the cohort's samples lie in is uploaded once, for all that serve them,
    where everything that is uploaded fits in half of the memory that is free otherwise; else each
    batch is copied from pinned memory while the device works.

    Parameters
    ----------
    cohort
        A cohort whose ``read`` is a sample store (see ``store_samples``).
    device
        Where batches are wanted.

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
        places = self._places(self._rows[positions])
        if self._resident is None:
            inputs = self._copied(places)
        else:
            inputs = self._resident[torch.from_numpy(places).to(self.device)]
        return Batch(inputs.movedim(-1, 1), self.labels(positions))

    def labels(self, positions: NDArray[np.intp]) -> Tensor:
        """Return the classes of the samples at some positions, ``(B,)``."""
        return self._labels[torch.from_numpy(positions).to(self.device)]

    def _places(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return where samples lie: the row ``(B,)`` of images, the rows ``(B, T)`` of series."""
        return rows if self._steps is None else rows[:, None] + np.arange(self._steps)

    def _upload(self, store: SampleStore) -> None:
        """Keep on the device what the samples lie in; windows that overlap share it there, too."""
        used = np.zeros(len(self._samples), np.bool_)
        for step in range(self._steps or 1):
            used[self._rows + step] = True
        places = np.flatnonzero(used)
        kept = _uploaded.setdefault(store, {})
        key = self.device, hashlib.sha256(places.data).digest()
        if key not in kept:
            if not self._fits(len(places)):
                return
            kept[key] = self._on_device(places)
        self._resident, self._rows = kept[key], np.searchsorted(places, self._rows)

    def _fits(self, rows: int) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        # What torch holds in reserve counts as taken there, and is to be had.
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        held = sum(
            tensor.nbytes
            for kept in _uploaded.values()
            for (device, _), tensor in kept.items()
            if device == self.device
        )
        return bool(held + rows * self._samples[:1].nbytes <= (free + held) // 2)

    def _on_device(self, places: NDArray[np.intp]) -> Tensor:
        """Return rows of the store, sent in pieces."""
        rows = self._copied(places[:0]).new_empty(len(places), *self._samples.shape[1:])
        for start in range(0, len(places), _CHUNK):
            rows[start : start + _CHUNK] = self._copied(places[start : start + _CHUNK])
        return rows

    def _copied(self, places: NDArray[np.intp]) -> Tensor:
        """Return rows of the store, gathered on the CPU and sent on without waiting."""
        shape = (*places.shape, *self._samples.shape[1:])
        dtype = torch.uint8 if self._samples.dtype == np.uint8 else torch.float32
        rows = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        # Without "clip", which never has anything to clip, numpy copies through a buffer.
        np.take(self._samples, places, axis=0, out=rows.numpy(), mode="clip")
        return rows.to(self.device, non_blocking=True)
