"""Whether the largest difference between groups is smaller under one model than under another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from evenhand.metrics.contrasts import Contrasts, Side
from evenhand.metrics.families import MetricFamily, t_quantile
from evenhand.metrics.intervals import Interval, few_apart, usable
from evenhand.metrics.registry import Floats
from evenhand.metrics.resample import Bootstrap, Resamples

MOST_PAIRS = 60
"""Pairs of groups, over all metrics, up to which spreads are compared: the work is its square."""


@dataclass(frozen=True, eq=False)
class SpreadComparison:
    """The differences that decide whether one model's spread is smaller than another's.

    Attributes
    ----------
    contrasts
        For each difference ``d`` between groups under the first model and each ``r`` under the
        second: ``r - d`` (the first ``P * Q``), then ``r + d``.
    shape
        ``(P, Q)``: how many differences between groups each model has.
    """

    contrasts: Contrasts
    shape: tuple[int, int]

    @property
    def places(self) -> NDArray[np.intp]:
        """The places of all contrasts."""
        return np.arange(len(self.contrasts))

    def p_value(self, p: Floats) -> float:
        """Return the p-value of "both spreads are equal", given those of all contrasts.

        Notes
        -----
        A spread is smaller where *each* absolute difference between groups is smaller than *some*
        absolute difference of the other model. ``|d| < |r|`` holds where ``r - d`` and ``r + d``
        have the same sign, ``|d| > |r|`` where their signs differ, and both must be clear of 0. So
        the p-value is a union of intersections (Berger, Technometrics 1982), and the largest
        difference itself, which is biased where groups are close, is never tested.
        """
        minus, plus = np.sign(self.contrasts.values()).reshape(2, *self.shape)
        both = np.where(np.isnan(p), 1.0, p).reshape(2, *self.shape).max(axis=0)
        smaller = np.where(minus * plus > 0, both, 1.0).min(axis=1).max()
        larger = np.where(minus * plus < 0, both, 1.0).min(axis=0).max()
        return float(min(smaller, larger))


def compare_spreads(
    first: Sequence[Sequence[Side]], second: Sequence[Sequence[Side]]
) -> SpreadComparison | None:
    """Prepare the comparison of two models' spreads.

    Parameters
    ----------
    first, second
        The values of the same groups under each model, metric by metric, from the same resamples.

    Returns
    -------
    SpreadComparison or None
        None where nothing can be tested: a group's value is undefined or 0 or 1 in every resample,
        there is one group, or there are more than `MOST_PAIRS` pairs.
    """
    every = [side for model in (first, second) for sides in model for side in sides]
    if not all(side.usable and not side.trials for side in every):
        return None
    own, reference = (
        [_less(*pair) for sides in model for pair in combinations(sides, 2)]
        for model in (first, second)
    )
    count = len(own)
    if not 0 < count <= MOST_PAIRS:
        return None
    opposite = [Side(side.group, -side.values, -side.scaled, side.cases) for side in own]
    each, other = (
        places.ravel().astype(np.int32)
        for places in np.meshgrid(np.arange(count), np.arange(len(reference)), indexing="ij")
    )
    return SpreadComparison(
        Contrasts(
            (*own, *opposite, *reference),
            np.tile(other + 2 * count, 2),
            np.concatenate([each, each + count]),
        ),
        (count, len(reference)),
    )


def _less(first: Side, other: Side) -> Side:
    """Return the difference of two groups' values as a value of its own."""
    values = first.values - other.values
    return Side(f"{first.group} less {other.group}", values, values, min(first.cases, other.cases))


def spread_difference_interval(
    first: Sequence[MetricFamily],
    second: Sequence[MetricFamily],
    resamples: Resamples,
    bootstrap: Bootstrap,
) -> Interval | None:
    """Return the interval of one model's spread less another's, None where it cannot be made.

    Parameters
    ----------
    first, second
        The values of the same groups under each model, metric by metric.

    Notes
    -----
    With differences between groups ``d`` under the first model and ``r`` under the second, the
    spreads differ by ``max |d| - max |r|``, that is the largest over ``d`` of the smallest over
    ``r`` of ``|d| - |r|``. All ``r - d`` and ``r + d`` get intervals that hold at the same time (as
    in `spread_interval`), and these bound each ``|d| - |r|``. So the interval holds wherever they
    do, whichever difference is the largest.
    """
    families = (*first, *second)
    ends, kept = usable(families, resamples)
    if kept is None or any(family.fixed.any() for family in families):
        return None
    own, reference = (_pairs(model, kept) for model in (first, second))
    if not 0 < len(own) <= MOST_PAIRS:
        return None
    both = np.stack([reference[None] - own[:, None], reference[None] + own[:, None]])
    point, error = both[..., 0], both[..., 1:].std(axis=-1, ddof=1)  # (2, P, Q)
    t = np.abs(both[..., 1:] - point[..., None]) / np.where(error > 0, error, np.inf)[..., None]
    critical = float(np.quantile(t.max(axis=(0, 1, 2)), bootstrap.level))
    fewest = np.array([min(family.fewest for family in families)])
    reach = error * t_quantile(float(ndtr(-critical)), fewest)
    low, high = _reference_less_own(point - reach, point + reach)
    few = max(map(few_apart, families))
    return replace(ends, low=-high, high=-low, method="simultaneous", few=few)


def _pairs(families: Sequence[MetricFamily], kept: NDArray[np.bool_]) -> Floats:
    """Return all differences between two groups ``(P, 1 + B)``, metric by metric."""
    every = [
        family.values[first, kept] - family.values[other, kept]
        for family in families
        for first, other in combinations(range(len(family.names)), 2)
    ]
    return np.array(every).reshape(len(every), np.count_nonzero(kept))


def _reference_less_own(low: Floats, high: Floats) -> tuple[float, float]:
    """Return the ends of ``max |r| - max |d|`` from those of ``r - d`` and ``r + d`` (2, P, Q)."""
    below = np.maximum(np.minimum(low[0], low[1]), np.minimum(-high[0], -high[1]))
    above = np.maximum(np.minimum(high[0], high[1]), np.minimum(-low[0], -low[1]))
    return float(below.max(axis=1).min()), float(above.max(axis=1).min())
