"""Batches on the training device, out of a sample store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store import SampleStore

_CHUNK = 4096  # samples uploaded at a time


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples and their classes, on the device that they were asked for."""

    images: Tensor  # (B, 3, H, W) uint8, channels last in memory
    labels: Tensor  # (B,) int64


class BatchSource:
    """Serves batches of a stored cohort to one device.

    On a CUDA device the cohort's samples are uploaded once, where they fit in half of the memory
    that is free; otherwise each batch is copied from pinned memory while the device works.

    Parameters
    ----------
    cohort
        A cohort whose ``read`` is a sample store (see ``store_samples``).
    device
        Where batches are wanted.

    Raises
    ------
    TypeError
        The cohort is not stored.
    """

    def __init__(self, cohort: Cohort, device: torch.device) -> None:
        if not isinstance(cohort.read, SampleStore):
            raise TypeError("batches come from a stored cohort: call store_samples first")
        self.device = device
        self._samples = cohort.read.samples
        self._rows = cohort.read.rows(cohort.table["sample_id"])
        self._labels = torch.from_numpy(cohort.labels.copy()).to(device)
        self._resident = self._uploaded() if self._fits() else None

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: NDArray[np.intp]) -> Batch:
        """Return the samples at some positions in the cohort, in that order."""
        at = torch.from_numpy(positions).to(self.device)
        images = self._copied(positions) if self._resident is None else self._resident[at]
        return Batch(images.permute(0, 3, 1, 2), self._labels[at])

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return len(self) * self._samples[:1].nbytes <= free // 2

    def _uploaded(self) -> Tensor:
        """Return all samples of the cohort on the device, ``(n, H, W, 3)``."""
        images = torch.empty(
            (len(self), *self._samples.shape[1:]), dtype=torch.uint8, device=self.device
        )
        for start in range(0, len(self), _CHUNK):
            positions = np.arange(start, min(start + _CHUNK, len(self)))
            images[start : start + _CHUNK] = self._copied(positions)
        return images

    def _copied(self, positions: NDArray[np.intp]) -> Tensor:
        """Return samples ``(B, H, W, 3)``, gathered on the CPU and sent on without waiting."""
        shape = (len(positions), *self._samples.shape[1:])
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        # Without "clip", which never has anything to clip, numpy copies through a buffer.
        np.take(self._samples, self._rows[positions], axis=0, out=images.numpy(), mode="clip")
        return images.to(self.device, non_blocking=True)
