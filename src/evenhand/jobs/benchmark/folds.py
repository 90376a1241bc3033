"""Outer folds by patient, and the task of an entry in a fold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort, check_usable
from evenhand.cohort.prepare import prepare_cohort
from evenhand.cohort.splits import Splits, assign_folds, fold_splits
from evenhand.experiments.task import Task, task_from_splits
from evenhand.jobs.benchmark.entries import Entry
from evenhand.jobs.benchmark.external import external_cohort
from evenhand.jobs.benchmark.settings import BenchmarkSettings


@dataclass(frozen=True, eq=False)
class Folds:
    """A cohort, and the fold in which each sample is tested.

    Attributes
    ----------
    settings
        The settings of the benchmark.
    cohort
        The samples of all folds.
    fold_of_sample
        ``(n,)``, the fold of each sample, 0 … folds − 1.
    """

    settings: BenchmarkSettings
    cohort: Cohort
    fold_of_sample: NDArray[np.intp]
    _splits: dict[int, Splits] = field(default_factory=dict, init=False)  # by fold

    def splits(self, fold: int) -> Splits:
        """Return the splits of a fold, the same for every entry and seed."""
        if fold not in self._splits:
            self._splits[fold] = self._divide(fold)
        return self._splits[fold]

    def _divide(self, fold: int) -> Splits:
        settings = self.settings
        train, val, _ = settings.split
        rng = np.random.default_rng([settings.seed, fold])
        share = val / (train + val)
        is_test = self.fold_of_sample == fold
        return fold_splits(self.cohort, is_test, share, settings.attribute, rng)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data and of their division into folds."""
        tested = zip(self.cohort.table["sample_id"], self.fold_of_sample, strict=True)
        text = "\n".join(f"{fold}:{name}" for name, fold in tested)
        return hashlib.sha256(f"{self.cohort.source.fingerprint}\n{text}".encode()).hexdigest()


@lru_cache(1)
def prepared_folds(settings: BenchmarkSettings) -> Folds:
    """Return the folds; each process prepares them once.

    Raises
    ------
    EvenhandError
        If the data cannot be read or divided.
    """
    rng = np.random.default_rng(settings.seed)
    cohort = prepare_cohort(settings, settings.images, rng)
    check_usable(cohort, settings.attribute)
    return Folds(settings, cohort, assign_folds(cohort, settings.folds, settings.attribute, rng))


@lru_cache(1)
def entry_task(settings: BenchmarkSettings, entry: Entry, fold: int) -> Task:
    """Return the task of an entry in a fold; the last task is cached."""
    return task_from_splits(entry.settings(settings), prepared_folds(settings).splits(fold))


@contextmanager
def fresh_folds() -> Iterator[None]:
    """Clear the caches before and after the block, as the data may change between jobs."""
    _clear_caches()
    try:
        yield
    finally:
        _clear_caches()


def _clear_caches() -> None:
    prepared_folds.cache_clear()
    entry_task.cache_clear()
    external_cohort.cache_clear()
