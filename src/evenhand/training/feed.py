"""The inputs of a fit: augmented samples, or cached activations of frozen layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import Splits
from evenhand.cohort.store.batches import Batch, BatchProvider, BatchSource
from evenhand.cohort.store.samples import FORMAT
from evenhand.masks.masks import Mask
from evenhand.masks.truncate import Truncation, activations_at, first_depth, truncate_at, upper_part
from evenhand.masks.units import EMBEDDING, is_transformer, module_depths
from evenhand.networks.augment import DRAWS, Augment, DrawnNumbers, find_augmentation, none
from evenhand.networks.model import Model
from evenhand.training.frozen_prefix import ActivationCache, ActivationRows
from evenhand.training.predict import channels_last, to_unit_range
from evenhand.training.settings import FitSettings

PLAIN = "as they are"  # stands for samples without augmentation in the names of cached activations


@dataclass(frozen=True, eq=False)
class AugmentedView:
    """One augmented view of each sample of a split; a sample's view is the same in any batch."""

    source: BatchSource
    augment: Augment
    draws: Tensor  # (n, DRAWS)

    def __len__(self) -> int:
        return len(self.source)

    def take(self, positions: NDArray[np.intp]) -> Batch:
        """Return the samples at some positions, augmented."""
        batch = self.source.take(positions)
        drawn = DrawnNumbers(self.draws[torch.from_numpy(positions).to(self.draws.device)])
        return replace(batch, inputs=self.augment(to_unit_range(batch.inputs), drawn))


@dataclass(frozen=True, eq=False)
class CutActivations:
    """Activations of a cohort's samples at a cut of the backbone.

    Attributes
    ----------
    source
        The samples.
    rows
        Activations of these samples, or of a larger pool.
    channels_last
        Whether activations are images with the channels last in memory, as convolutions need.
    places
        The row of each sample, ``(n,)``; None if samples and rows have the same order.
    """

    source: BatchSource
    rows: ActivationRows
    channels_last: bool
    places: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def take(self, positions: NDArray[np.intp]) -> Batch:
        """Return the activations of the samples at some positions."""
        rows = positions if self.places is None else self.places[positions]
        inputs = self.rows.take(rows)
        if self.channels_last:
            inputs = channels_last(inputs)
        return Batch(inputs, self.source.labels(positions))


@dataclass(frozen=True, eq=False)
class _Pool:
    """The samples whose activations are cached: the training samples, and maybe others."""

    source: BatchSource
    places: NDArray[np.intp] | None = None  # (n,) row of each training sample; None: all, in order

    @classmethod
    def of_splits(cls, splits: Splits, train: BatchSource) -> _Pool:
        """Return the pool of splits; the training samples if the splits have none."""
        if splits.pool is None:
            return cls(train)
        ids = pd.Index(splits.pool.table["sample_id"])
        places = ids.get_indexer(splits.train.table["sample_id"])
        return cls(BatchSource(splits.pool, train.device), places)


class Feed:
    """The inputs of a fit, epoch by epoch.

    Parameters
    ----------
    model
        The model, on the device that trains.
    splits
        Training and validation cohorts with a sample store behind them.
    settings
        Settings of the fit: seed, augmentation, number of views, batch size, precision.
    accelerator
        Device and precision.
    cache
        Cache for activations of frozen layers; None to compute them in each step.
    """

    def __init__(
        self,
        model: Model,
        splits: Splits,
        settings: FitSettings,
        accelerator: Accelerator,
        cache: ActivationCache | None,
    ) -> None:
        self._model, self._settings, self._splits = model, settings, splits
        self._accelerator, self._cache = accelerator, cache
        self._train = BatchSource(splits.train, accelerator.device)
        self._val = BatchSource(splits.val, accelerator.device)
        self._augment = find_augmentation(settings.augment, model.spec.inputs)
        views = settings.views or settings.epochs
        self._views = 1 if self._augment is none else views
        self._cuts: dict[Mask, Truncation | None] = {}
        self._view_counts: dict[
            int, int
        ] = {}  # depth → number of views whose activations may be cached
        self._convolves = not is_transformer(model.backbone)
        if cache is not None:
            self._pool = _Pool.of_splits(splits, self._train)
            self._digests = {
                "train": _identity(splits.train),
                "val": _identity(splits.val),
                "pool": _identity(splits.pool or splits.train),
            }
            self._weights: dict[int, str] = {}  # depth → digest of the weights below it

    def __len__(self) -> int:
        """Return the number of training samples."""
        return len(self._train)

    def truncate(self, mask: Mask) -> Truncation | None:
        """Return the cut below all units of a mask; None if the fit reads samples.

        The result is None without a cache, or if the activations of an epoch do not fit into it.
        The model is put into evaluation mode.

        Parameters
        ----------
        mask
            All units that may have changed so far; layers below the cut then have the weights that
            the fit began with.

        Raises
        ------
        EvenhandError
            If one batch of activations does not fit into the cache's memory.
        """
        if self._cache is None:
            return None
        if mask not in self._cuts:
            backbone = self._model.eval().backbone
            with self._accelerator.autocast():
                sample = to_unit_range(self._val.take(np.arange(min(2, len(self._val)))).inputs)
                sample = self._model.backbone_inputs(self._model.scale(sample))
                truncation = truncate_at(backbone, first_depth(backbone, mask), sample)
                if truncation is not None:
                    # The first cut is the highest, so one computation serves all cuts.
                    self._weights = self._weights or _weights_below(backbone, truncation.depth)
                    activations = activations_at(backbone, backbone, truncation.depth, sample)
                    batch = min(self._settings.batch_size, len(self))
                    self._cache.check(activations, batch)
                    count = len(self._pool.source)
                    room = self._cache.count_fitting(activations, count, reserved=len(self._val))
                    self._view_counts[truncation.depth] = room
                    truncation = truncation if room else None
            self._cuts[mask] = truncation
        return self._cuts[mask]

    def train(
        self, epoch: int, truncation: Truncation | None
    ) -> tuple[BatchProvider, nn.Module | None]:
        """Return the training inputs of an epoch, and the part of the backbone that takes them.

        The part is None for the whole backbone. Only the first views are cached, as many as fit:
        later views would evict them before they are used again.
        """
        number = epoch % self._views
        view = self._view(number)
        if truncation is None or number >= self._view_counts[truncation.depth]:
            return view, None
        if self._augment is none:
            return self._pool_activations(truncation), truncation.upper
        name = f"{self._settings.augment} {self._settings.seed} {number}"
        return self._cached_activations(
            view, self._train, f"{self._digests['train']} {name}", truncation
        ), truncation.upper

    def val(self, truncation: Truncation | None) -> tuple[BatchProvider, nn.Module | None]:
        """Return the validation inputs, and the part of the backbone that takes them."""
        if truncation is None:
            return self._val, None
        return self._plain_activations(
            self._val, self._digests["val"], truncation
        ), truncation.upper

    def split(
        self, name: str, truncation: Truncation | None
    ) -> tuple[BatchProvider, nn.Module | None]:
        """Return a split's inputs after the fit, and the part of the backbone that takes them."""
        if name == "val":
            return self.val(truncation)
        if name == "train":
            return (
                (self._train, None)
                if truncation is None
                else (self._pool_activations(truncation), truncation.upper)
            )
        cohort = getattr(self._splits, name)
        source = BatchSource(cohort, self._accelerator.device)
        if truncation is None:
            return source, None
        return self._plain_activations(source, _identity(cohort), truncation), truncation.upper

    def _pool_activations(self, truncation: Truncation) -> CutActivations:
        """Return cached activations of the training samples, without augmentation."""
        rows = self._plain_activations(self._pool.source, self._digests["pool"], truncation).rows
        return CutActivations(self._train, rows, self._convolves, self._pool.places)

    def _plain_activations(
        self, source: BatchSource, name: str, truncation: Truncation
    ) -> CutActivations:
        """Return cached activations of samples, without augmentation."""
        return self._cached_activations(source, source, f"{name} {PLAIN}", truncation)

    def _view(self, number: int) -> AugmentedView:
        seed = np.random.SeedSequence([self._settings.seed, number]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        draws = torch.rand(len(self._train), DRAWS, generator=generator)
        return AugmentedView(self._train, self._augment, draws.to(self._accelerator.device))

    def _cached_activations(
        self, samples: BatchProvider, source: BatchSource, name: str, truncation: Truncation
    ) -> CutActivations:
        """Return cached activations; compute missing ones from the nearest lower cached cut."""
        cache = self._cache
        assert cache is not None
        key = self._key(name, truncation.depth)
        with self._accelerator.local_main_process_first():
            while (rows := cache.find(key)) is None:
                cache.make(
                    key,
                    len(samples),
                    lambda: self._compute_activations(samples, source, name, truncation),
                )
        return CutActivations(source, rows, self._convolves)

    def _compute_activations(
        self, samples: BatchProvider, source: BatchSource, name: str, truncation: Truncation
    ) -> Iterator[Tensor]:
        backbone, size = self._model.eval().backbone, self._settings.batch_size
        lower = self._nearest_lower(source, name, truncation.depth)
        network, inputs_of = (backbone, samples) if lower is None else lower
        with torch.no_grad(), self._accelerator.autocast():
            for first in range(0, len(samples), size):
                inputs = inputs_of.take(np.arange(first, min(first + size, len(samples)))).inputs
                if lower is None:
                    inputs = self._model.backbone_inputs(self._model.scale(to_unit_range(inputs)))
                yield activations_at(network, backbone, truncation.depth, inputs)

    def _nearest_lower(
        self, source: BatchSource, name: str, depth: int
    ) -> tuple[nn.Module, CutActivations] | None:
        """Return the part above the nearest lower cut with cached activations, and these."""
        assert self._cache is not None
        for lower in range(depth - 1, EMBEDDING, -1):
            rows = self._cache.find(self._key(name, lower))
            if rows is not None and self._cache.fits_beside(rows):
                activations = CutActivations(source, rows, self._convolves)
                return upper_part(self._model.backbone, lower), activations
        return None

    def _key(self, name: str, depth: int) -> str:
        device, settings = self._accelerator.device, self._settings
        return json.dumps(
            [
                *(name, depth, self._weights[depth], self._model.spec.model_dump(mode="json")),
                *(settings.precision, settings.batch_size, device.type, torch.get_num_threads()),
            ]
        )


def _identity(cohort: Cohort) -> str:
    """Return a digest of a split's samples, of their decoding, and of their order."""
    ids = "\n".join(cohort.table["sample_id"])
    text = f"{FORMAT}\n{cohort.source.reader}\n{cohort.source.fingerprint}\n{ids}"
    return hashlib.sha256(text.encode()).hexdigest()


def _weights_below(backbone: nn.Module, highest: int) -> dict[int, str]:
    """Return, for each depth up to ``highest``, a digest of weights and statistics below it."""
    depths = module_depths(backbone)
    by_depth: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in backbone.state_dict().items():
        depth = depths.get(name.rpartition(".")[0], EMBEDDING)
        by_depth.setdefault(depth, []).append((name, tensor))
    digest, digests = hashlib.sha256(), {}
    for depth in range(highest):
        for name, tensor in by_depth.get(depth, []):
            digest.update(name.encode())
            digest.update(
                tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
            )
        digests[depth + 1] = digest.hexdigest()
    return digests
