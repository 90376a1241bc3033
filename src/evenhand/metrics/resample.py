"""Resamples of whole patients, as weights: the number of times a resample draws each patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evenhand.errors import EvenhandError
from evenhand.metrics.registry import Weights

BLOCKS = 200
"""Largest number of blocks of patients that BCa leaves out in turn, for its acceleration."""

KEPT = 2**26
"""Largest number of weights (resamples × patients, one byte each) that are kept in memory."""

DRAWN = 2**17
"""Number of patients that are drawn at a time, so that they fit into the cache."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are computed.

    Attributes
    ----------
    replicates
        The number of resamples of the patients, at least 1.
    level
        The confidence level, between 0 and 1.
    method
        ``"auto"``: a t interval with the standard error of the resamples, on a scale that depends
        on the metric (see `evenhand.metrics.families.MetricFamily.margins`); it is valid with few
        patients, too. ``"percentile"``: percentiles of the resamples. ``"bca"``: bias-corrected
        and accelerated percentiles (Efron, JASA 1987). Ratios and other numbers that combine
        several values, except differences, always have percentile intervals.
    """

    replicates: int = 1000
    level: float = 0.95
    method: Literal["auto", "percentile", "bca"] = "auto"

    def __post_init__(self) -> None:
        if self.replicates < 1 or not 0 < self.level < 1:
            raise EvenhandError(
                f"{self.replicates} replicates at level {self.level}: there must be at least one, "
                "and the level must lie between 0 and 1."
            )


@dataclass(frozen=True, eq=False)
class Resamples:
    """Weights of all patients in the data, in the bootstrap resamples, and in the leave-outs.

    Attributes
    ----------
    patients
        P, the number of patients.
    replicates
        B, the number of bootstrap resamples.
    count
        1 + B + J: the data (each patient once); B resamples; J leave-outs, each without one block
        of patients.
    draw
        Returns an iterator over all weights, ``(P,)`` each; every call returns the same weights.
    progress
        Called after each block with the number of its resamples.
    """

    patients: int
    replicates: int
    count: int
    draw: Callable[[], Iterator[Weights]]
    progress: Callable[[int], None] | None = None

    @property
    def weights(self) -> Weights:
        """All weights, ``(1 + B + J, P)``."""
        return np.stack(list(self.draw()))

    def blocks(self, size: int) -> Iterator[tuple[slice, Weights]]:
        """Yield blocks of at most ``size`` resamples: their positions and weights ``(b, P)``."""
        drawn = self.draw()
        for start in range(0, self.count, size):
            block = slice(start, min(start + size, self.count))
            weights = np.empty((block.stop - start, self.patients), dtype=np.uint8)
            for row in weights:
                row[:] = next(drawn)
            yield block, weights
            if self.progress:
                self.progress(block.stop - start)


def as_resamples(weights: Weights, replicates: int = 0) -> Resamples:
    """Return resamples with the given weights ``(1 + B + J, P)``."""
    count, patients = weights.shape
    return Resamples(patients, replicates, count, lambda: iter(weights))


def resample(patients: int, bootstrap: Bootstrap | None, rng: np.random.Generator) -> Resamples:
    """Draw all patients with replacement, once for each replicate.

    Up to `KEPT` weights are drawn once and kept in memory. More weights are drawn again each time
    they are needed. The draws come from a copy of ``rng``, whose state does not change.
    """
    replicates = bootstrap.replicates if bootstrap else 0
    left_out = min(patients, BLOCKS) if bootstrap and bootstrap.method == "bca" else 0
    count = 1 + replicates + left_out
    start = deepcopy(rng)

    def draw() -> Iterator[Weights]:
        return _drawn(patients, replicates, left_out, deepcopy(start))

    resamples = Resamples(patients, replicates, count, draw)
    if count * patients > KEPT:
        return resamples
    return as_resamples(resamples.weights, replicates)


def _drawn(
    patients: int, replicates: int, left_out: int, rng: np.random.Generator
) -> Iterator[Weights]:
    """Yield the weights ``(P,)`` of the data, of each resample and of each leave-out."""
    yield np.ones(patients, dtype=np.uint8)
    for _ in range(replicates):
        times, once = np.zeros(patients, dtype=np.uint8), np.uint8(1)
        for start in range(0, patients, DRAWN):
            # More than 255 draws of a patient in one resample are practically impossible.
            drawn = rng.integers(patients, size=min(DRAWN, patients - start))
            np.add.at(times, drawn, once)
        yield times
    if left_out:
        # Blocks are random, because neighbouring patients (of one hospital, one year) may be alike.
        block = rng.permutation(patients) % left_out
        for index in range(left_out):
            yield (block != index).astype(np.uint8)
