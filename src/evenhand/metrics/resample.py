"""Resampling whole patients, as weights: how often each resample draws each patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evenhand.errors import EvenhandError
from evenhand.metrics.registry import Weights

BLOCKS = 200
"""Most blocks of patients that the acceleration of BCa is estimated from."""

KEPT = 2**26
"""Most weights (resamples × patients, a byte each) that are kept."""

DRAWN = 2**17
"""Patients that are drawn at a time; as many as stay in the cache."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes
    ----------
    replicates
        Number of resamples of the patients.
    level
        Confidence level, between 0 and 1.
    method
        ``"auto"``: from the error that the resamples give, on the scale that suits the number
        (see `evenhand.metrics.families.Family.reach`), which holds with few patients, too;
        ``"percentile"``; or ``"bca"`` (bias-corrected and accelerated; Efron, JASA 1987). Numbers
        that combine several values, other than differences, always have percentiles.
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
    """Weights of all patients: the data themselves, the bootstrap, the leave-outs.

    Attributes
    ----------
    patients
        P.
    replicates
        B.
    count
        1 + B + J: everybody once; B resamples; all but one of J blocks of patients.
    draw
        Returns all of them from the first on, ``(P,)`` each; the same whenever it is called.
    progress
        Called after each block with how many resamples it had.
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
        """Yield the weights ``(b, P)`` of at most ``size`` resamples, with the places of these."""
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
    """Return weights ``(1 + B + J, P)`` that are there already as resamples."""
    count, patients = weights.shape
    return Resamples(patients, replicates, count, lambda: iter(weights))


def resample(patients: int, bootstrap: Bootstrap | None, rng: np.random.Generator) -> Resamples:
    """Draw patients with replacement, as many as there are, once for each replicate.

    Few are drawn once and kept. More than `KEPT` weights are drawn when they are needed and kept
    nowhere, from a copy of ``rng``, whose state stays as it is.
    """
    replicates = bootstrap.replicates if bootstrap else 0
    left_out = min(patients, BLOCKS) if bootstrap and bootstrap.method == "bca" else 0
    count = 1 + replicates + left_out
    start = deepcopy(rng)

    def draw() -> Iterator[Weights]:
        return _drawn(patients, replicates, left_out, deepcopy(start))

    every = Resamples(patients, replicates, count, draw)
    if count * patients > KEPT:
        return every
    return as_resamples(every.weights, replicates)


def _drawn(
    patients: int, replicates: int, left_out: int, rng: np.random.Generator
) -> Iterator[Weights]:
    yield np.ones(patients, dtype=np.uint8)
    for _ in range(replicates):
        times, once = np.zeros(patients, dtype=np.uint8), np.uint8(1)
        for start in range(0, patients, DRAWN):
            # A patient drawn more than 255 times in one resample has no chance worth naming.
            drawn = rng.integers(patients, size=min(DRAWN, patients - start))
            np.add.at(times, drawn, once)
        yield times
    if left_out:
        # Blocks by chance: neighbouring patients (one hospital, one year) may be alike.
        block = rng.permutation(patients) % left_out
        for number in range(left_out):
            yield (block != number).astype(np.uint8)
