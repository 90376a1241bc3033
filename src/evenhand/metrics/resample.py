"""Resampling whole patients, as weights: how often each resample draws each patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evenhand.errors import EvenhandError
from evenhand.metrics.registry import Weights

BLOCKS = 200
"""Most blocks of patients that the acceleration of BCa is estimated from."""


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
    weights
        ``(1 + B + J, P)``: everybody once; B resamples; all but one of J blocks of patients.
    replicates
        B.
    progress
        Called after each batch of rows with how many it had.
    """

    weights: Weights
    replicates: int
    progress: Callable[[int], None] | None = None

    @property
    def count(self) -> int:
        """Number of rows of ``weights``."""
        return len(self.weights)

    def blocks(self, size: int) -> Iterator[tuple[slice, Weights]]:
        """Yield the weights ``size`` rows at a time, with the rows that they are."""
        for start in range(0, self.count, size):
            rows = slice(start, min(start + size, self.count))
            yield rows, self.weights[rows]
            if self.progress:
                self.progress(rows.stop - start)


def resample(patients: int, bootstrap: Bootstrap | None, rng: np.random.Generator) -> Resamples:
    """Draw patients with replacement, as many as there are, once for each replicate."""
    replicates = bootstrap.replicates if bootstrap else 0
    blocks = min(patients, BLOCKS) if bootstrap and bootstrap.method == "bca" else 0
    weights = np.ones((1 + replicates + blocks, patients), dtype=np.uint8)
    for row in range(1, 1 + replicates):
        drawn = np.bincount(rng.integers(patients, size=patients), minlength=patients)
        # A patient drawn 255 times in one resample has no chance worth naming.
        weights[row] = np.minimum(drawn, np.iinfo(np.uint8).max)
    if blocks:
        # Blocks by chance: neighbouring patients (one hospital, one year) may be alike.
        block = rng.permutation(patients) % blocks
        weights[1 + replicates :][block, np.arange(patients)] = 0
    return Resamples(weights, replicates)
