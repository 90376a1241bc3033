"""Intervals from the values of the resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evenhand.measure.registry import Floats
from evenhand.measure.resample import Bootstrap, Resamples

ENOUGH = 0.5
"""Share of the replicates that must be defined for an interval to be given."""


@dataclass(frozen=True)
class Interval:
    """Ends of an interval (None where there is none), how it was made, replicates undefined."""

    low: float | None
    high: float | None
    method: str | None
    undefined: int


def interval(values: Floats, resamples: Resamples, bootstrap: Bootstrap | None) -> Interval:
    """Return the interval of one number from its values ``(1 + B + J,)``.

    Undefined replicates are counted, and left out of the quantiles; where fewer than half of the
    replicates are defined there is no interval.
    """
    if bootstrap is None:
        return Interval(None, None, None, 0)
    drawn = values[1 : 1 + resamples.replicates]
    defined = drawn[~np.isnan(drawn)]
    undefined = len(drawn) - len(defined)
    if np.isnan(values[0]) or len(defined) < ENOUGH * len(drawn):
        return Interval(None, None, None, undefined)
    tail = (1 - bootstrap.level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), "percentile", undefined)
