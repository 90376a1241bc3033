"""Comparison of two models by their spread: the largest difference between two groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from evenhand.metrics.contrasts import Contrasts, Side
from evenhand.metrics.families import MetricFamily, t_quantile
from evenhand.metrics.intervals import Interval, defined_resamples, few_compared
from evenhand.metrics.registry import Floats
from evenhand.metrics.resample import Bootstrap, Resamples

MOST_PAIRS = 60
"""Largest number of pairs of groups, over all metrics; the work grows with its square."""


@dataclass(frozen=True, eq=False)
class SpreadComparison:
    """The differences that decide whether the spread of one model is smaller than another's.

    Attributes
    ----------
    contrasts
        For each difference ``d`` between two groups under the first model and each difference
        ``r`` under the second: all ``r - d``, then all ``r + d``.
    shape
        ``(P, Q)``: the numbers of differences between groups under each model.
    """

    contrasts: Contrasts
    shape: tuple[int, int]

    @property
    def indices(self) -> NDArray[np.intp]:
        """The indices of all contrasts."""
        return np.arange(len(self.contrasts))

    def p_value(self, p: Floats) -> float:
        """Return the p-value of "both spreads are equal", given those of all contrasts.

        Notes
        -----
        The spread of the first model is smaller if *each* of its absolute differences is smaller
        than *some* absolute difference of the second model. ``|d| < |r|`` holds if ``r - d`` and
        ``r + d`` have the same sign, ``|d| > |r|`` if their signs differ; both must differ from 0.
        The p-value is that of a union of intersections (Berger, Technometrics 1982). The largest
        difference itself, which is biased where groups are close, is never tested.
        """
        minus, plus = np.sign(self.contrasts.values()).reshape(2, *self.shape)
        needed = np.where(np.isnan(p), 1.0, p).reshape(2, *self.shape).max(axis=0)
        smaller = np.where(minus * plus > 0, needed, 1.0).min(axis=1).max()
        larger = np.where(minus * plus < 0, needed, 1.0).min(axis=0).max()
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
        None if there is no test: the value of a group is undefined, or the same in every
        resample; there is one group; or there are more than `MOST_PAIRS` pairs.
    """
    all_sides = [side for model in (first, second) for sides in model for side in sides]
    if not all(side.usable and not side.trials for side in all_sides):
        return None
    differences, reference = (
        [_less(*pair) for sides in model for pair in combinations(sides, 2)]
        for model in (first, second)
    )
    count = len(differences)
    if not 0 < count <= MOST_PAIRS:
        return None
    negated = [Side(side.group, -side.values, -side.scaled, side.cases) for side in differences]
    first_index, second_index = (
        places.ravel().astype(np.int32)
        for places in np.meshgrid(np.arange(count), np.arange(len(reference)), indexing="ij")
    )
    return SpreadComparison(
        Contrasts(
            (*differences, *negated, *reference),
            np.tile(second_index + 2 * count, 2),
            np.concatenate([first_index, first_index + count]),
        ),
        (count, len(reference)),
    )


def _less(first: Side, other: Side) -> Side:
    """Return the difference of two groups' values as one side of a contrast."""
    values = first.values - other.values
    return Side(f"{first.group} less {other.group}", values, values, min(first.cases, other.cases))


def spread_difference_interval(
    first: Sequence[MetricFamily],
    second: Sequence[MetricFamily],
    resamples: Resamples,
    bootstrap: Bootstrap,
) -> Interval | None:
    """Return the interval of the spread of one model less that of another.

    Parameters
    ----------
    first, second
        The values of the same groups under each model, metric by metric.

    Returns
    -------
    Interval or None
        None where there is no such interval: too few resamples are defined, a value is the same
        in every resample, there is one group, or there are more than `MOST_PAIRS` pairs.

    Notes
    -----
    With the differences between groups ``d`` under the first model and ``r`` under the second, the
    spreads differ by ``max |d| - max |r|``: the largest over ``d`` of the smallest over ``r`` of
    ``|d| - |r|``. All ``r - d`` and ``r + d`` get simultaneous intervals (as in `spread_interval`),
    which bound each ``|d| - |r|``. The interval is valid whichever difference is the largest.
    """
    families = (*first, *second)
    ends, mask = defined_resamples(families, resamples)
    if mask is None or any(family.fixed.any() for family in families):
        return None
    d, r = (_pairs(model, mask) for model in (first, second))
    if not 0 < len(d) <= MOST_PAIRS:
        return None
    contrasts = np.stack([r[None] - d[:, None], r[None] + d[:, None]])
    point, drawn = contrasts[..., 0], contrasts[..., 1:]  # (2, P, Q) and (2, P, Q, B)
    error = drawn.std(axis=-1, ddof=1)
    t = np.abs(drawn - point[..., None]) / np.where(error > 0, error, np.inf)[..., None]
    critical = float(np.quantile(t.max(axis=(0, 1, 2)), bootstrap.level))
    fewest = np.array([min(family.fewest for family in families)])
    margin = error * t_quantile(float(ndtr(-critical)), fewest)
    low, high = _bounds_of_second_less_first(point - margin, point + margin)
    few = max(map(few_compared, families))
    return replace(ends, low=-high, high=-low, method="simultaneous", few=few)


def _pairs(families: Sequence[MetricFamily], mask: NDArray[np.bool_]) -> Floats:
    """Return the differences ``(P, 1 + b)`` of all pairs of groups, metric by metric.

    ``mask`` chooses the data and b resamples.
    """
    differences = [
        family.values[first, mask] - family.values[other, mask]
        for family in families
        for first, other in combinations(range(len(family.names)), 2)
    ]
    return np.array(differences).reshape(len(differences), np.count_nonzero(mask))


def _bounds_of_second_less_first(low: Floats, high: Floats) -> tuple[float, float]:
    """Return the ends of ``max |r| - max |d|`` from those of ``r - d`` and ``r + d`` (2, P, Q)."""
    below = np.maximum(np.minimum(low[0], low[1]), np.minimum(-high[0], -high[1]))
    above = np.maximum(np.minimum(high[0], high[1]), np.minimum(-low[0], -low[1]))
    return float(below.max(axis=1).min()), float(above.max(axis=1).min())
