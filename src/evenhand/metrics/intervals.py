"""Confidence intervals of numbers, from their values in the resamples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from evenhand.errors import count_text, first_few
from evenhand.metrics.aggregates import Extreme
from evenhand.metrics.families import (
    MANY,
    SAME,
    ErrorScale,
    MetricFamily,
    error_and_skew,
    t_quantile,
)
from evenhand.metrics.registry import Floats
from evenhand.metrics.resample import Bootstrap, Resamples

MIN_DEFINED = 0.5
"""Share of the replicates that must be defined for an interval."""

CONSTANT = "the same in every resample"
"""Why there is no interval: the resamples say nothing about the number's error."""

NEARLY_CONSTANT = "the same in nearly every resample"
"""Why there is no interval: its ends would coincide, which would claim certainty."""

METHODS: Mapping[ErrorScale, str] = {
    "share": "logit t",
    "mean": "skewed t",
    "coefficient": "t",
    "square": "conservative t",
    "plain": "t",
}
"""Names of the interval methods of `MetricFamily.margins`."""


FEW, FEW_COMPARED, FEW_MEAN, FEW_PAIRED, FEW_DRAWN = 10, 20, 40, 80, 160
"""Numbers of patients below which an interval is approximate, as simulations do not show that it
covers as often as it says (see ``docs/guides/measurement.md``):

- ``FEW``: the interval of one group's share (`MetricFamily.margins`);
- ``FEW_COMPARED``: differences and gaps of shares, which cover too often with fewer patients;
- ``FEW_MEAN``: means;
- ``FEW_PAIRED``: the difference of two models in a mean;
- ``FEW_DRAWN``: percentile and BCa intervals.
"""


@dataclass(frozen=True)
class Interval:
    """The interval of a number.

    Attributes
    ----------
    low, high
        The ends; None where there is no interval.
    method
        The name of the method.
    undefined
        The number of replicates in which the number is undefined.
    few
        The number of patients below which the interval is approximate.
    reason
        Why there is no interval, if the resamples are the reason.
    approximate
        Why the interval may cover less often than its level, or None.
    """

    low: float | None
    high: float | None
    method: str | None
    undefined: int
    few: int = 0
    reason: str | None = None
    approximate: str | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the number is the same in every resample."""
        return self.reason == CONSTANT

    def mark_if_few(self, patients: int) -> Interval:
        """Return the interval, marked as approximate if it rests on too few patients."""
        if self.low is None or patients >= self.few:
            return self
        return replace(self, approximate=count_text(patients, "patient"))


NO_INTERVAL = Interval(None, None, None, 0)


def unchanging_reason(names: Sequence[str]) -> str:
    """Return the reason why groups with these names have no error from resamples, in words."""
    return f"{CONSTANT}: {first_few(map(repr, names))}"


def resampled_interval(values: Floats, resamples: Resamples, bootstrap: Bootstrap) -> Interval:
    """Return the percentile or BCa interval of one number from its values ``(1 + B + J,)``.

    Undefined replicates are counted, and left out of the quantiles. If fewer than half of the
    replicates are defined there is no interval. If BCa breaks down the interval is that of the
    percentiles, and its method says so.
    """
    empty, defined = _defined(values, resamples)
    if defined is None:
        return empty
    tails = np.array([(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2])
    method = "percentile"
    if bootstrap.method == "bca":
        shifted = _bca_tails(values[0], defined, values[1 + resamples.replicates :], tails)
        method = "bca" if shifted is not None else "percentile (BCa breaks down)"
        tails = tails if shifted is None else shifted
    low, high = np.quantile(defined, tails)
    if high - low <= SAME * max(1, abs(values[0])):
        return replace(empty, reason=NEARLY_CONSTANT)
    return replace(empty, low=float(low), high=float(high), method=method, few=FEW_DRAWN)


def _defined(values: Floats, resamples: Resamples) -> tuple[Interval, Floats | None]:
    """Return an interval without ends, and the defined replicates.

    The replicates are None where too few are defined, or where all are equal. If all are equal,
    the interval has this reason.
    """
    drawn = values[1 : 1 + resamples.replicates]
    defined = drawn[~np.isnan(drawn)]
    undefined = len(drawn) - len(defined)
    if np.isnan(values[0]) or len(defined) < MIN_DEFINED * len(drawn):
        return Interval(None, None, None, undefined), None
    if defined.max() - defined.min() <= SAME * max(1, abs(values[0])):
        return Interval(None, None, None, undefined, reason=CONSTANT), None
    return Interval(None, None, None, undefined), defined


def group_interval(family: MetricFamily, resamples: Resamples, bootstrap: Bootstrap) -> Interval:
    """Return the interval of one group's value.

    A share of 0 or 1 in the data is the same in every resample, so the bootstrap has no error.
    But five cancers found out of five do not prove a sensitivity of 1. The interval of such a share
    is Clopper and Pearson's exact interval, with patients as the trials.
    """
    ends, defined = _defined(family.values[0], resamples)
    exact = ends.is_constant and bool(family.trials[0])
    if not exact and defined is None:
        return ends
    if not exact and bootstrap.method != "auto":
        return resampled_interval(family.values[0], resamples, bootstrap)
    point, tail = float(family.values[0, 0]), (1 - bootstrap.level) / 2
    below, above = (float(margin[0]) for margin in family.margins(tail))
    low, high = point - below, point + above
    if exact:
        return replace(ends, low=low, high=high, method="exact", reason=None)
    return replace(ends, low=low, high=high, method=METHODS[family.scale], few=_few(family))


def _few(family: MetricFamily) -> int:
    """Return the number of patients below which the interval of a value is approximate.

    That of a square always is approximate.
    """
    return {"square": MANY, "mean": FEW_MEAN}.get(family.scale, FEW)


def few_compared(family: MetricFamily) -> int:
    """Return the number of patients below which an interval that compares groups is approximate."""
    return max(_few(family), FEW_COMPARED) if family.scale == "share" else _few(family)


def difference_interval(
    values: Floats, family: MetricFamily, resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of the difference of two groups or models, from ``(1 + B + J,)`` values.

    Two groups: the intervals of the two values are combined by MOVER (see
    `MetricFamily.pair_margins`). Two models on the same samples are strongly correlated, so the
    standard error of their difference is used directly, with Student's t.

    Percentile and BCa intervals are those of the difference itself. A share of 0 or 1 does not vary
    in the resamples, so its exact interval is added to the interval of the difference. That assumes
    independent shares, which is conservative for two models on the same patients.
    """
    ends, defined = _defined(values, resamples)
    if defined is None and not ends.is_constant:
        return ends
    if family.unbounded:
        return _no_interval(family.unbounded, ends)
    if ends.is_constant and not family.fixed.any():
        return ends
    point, tail = float(values[0]), (1 - bootstrap.level) / 2
    if bootstrap.method == "auto" and not family.paired:
        below, above = (float(margin[0]) for margin in family.pair_margins(tail))
        method, few = (
            _method_name(METHODS[family.scale], family),
            0 if family.fixed.all() else few_compared(family),
        )
        low, high = point - below, point + above
        return replace(ends, low=low, high=high, method=method, few=few, reason=None)
    if defined is not None and bootstrap.method == "auto":
        ends = _paired(values, family, ends, tail)
    elif defined is not None:
        ends = resampled_interval(values, resamples, bootstrap)
    return _with_exact(point, family, ends, tail)


def _paired(values: Floats, family: MetricFamily, ends: Interval, tail: float) -> Interval:
    """Return Student's t interval of the difference of two models, from its own resamples."""
    drawn = values[None, 1 : 1 + family.replicates]
    error, _ = error_and_skew(drawn, "coefficient" if family.scale == "coefficient" else "plain")
    margin = float(error[0] * t_quantile(tail, family.patients.min(keepdims=True))[0])
    point = float(values[0])
    few = FEW_PAIRED if family.scale == "mean" else _few(family)
    return replace(ends, low=point - margin, high=point + margin, method="t", few=few)


def _with_exact(point: float, family: MetricFamily, ends: Interval, tail: float) -> Interval:
    """Return an interval widened by the exact intervals of the fixed values."""
    if not family.fixed.any():
        return ends
    low, high = (point, point) if ends.low is None or ends.high is None else (ends.low, ends.high)
    below, above = (np.where(family.fixed, margin, 0.0) for margin in family.margins(tail))
    return replace(
        ends,
        low=point - math.hypot(point - low, below[0], above[1]),
        high=point + math.hypot(high - point, above[0], below[1]),
        method=_method_name(ends.method, family),
        reason=None,
    )


def _method_name(method: str | None, family: MetricFamily) -> str:
    """Return the name of the method, extended where some values have exact intervals."""
    if family.fixed.all() or method is None:
        return "exact"
    return f"{method} and exact" if family.fixed.any() else method


def combined_interval(
    values: Floats, families: Sequence[MetricFamily], resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of a number that combines values of groups, such as a ratio.

    There is none if one of these values is the same in every resample, as its error would count
    as 0.
    """
    combined = resampled_interval(values, resamples, bootstrap)
    fixed = [
        name
        for family in families
        for name, is_fixed in zip(family.names, family.fixed, strict=True)
        if is_fixed
    ]
    return _no_interval(tuple(dict.fromkeys(fixed)), combined) if fixed else combined


def extremes_difference_interval(
    values: Floats,
    families: Sequence[MetricFamily],
    extreme: Extreme,
    resamples: Resamples,
    bootstrap: Bootstrap,
) -> Interval:
    """Return the interval of the lowest or highest value of one model less that of another.

    There is none if a group whose value never changes could be the extreme group. It could be if
    the end of its exact interval (Bonferroni's level over all groups) is as extreme as the extreme
    value of any resample.
    """
    tail = (1 - bootstrap.level) / 2 / sum(len(family.names) for family in families)
    relevant = [_fixed_if_extreme(family, extreme, tail, resamples) for family in families]
    ends = combined_interval(values, relevant, resamples, bootstrap)
    if bootstrap.method != "auto" or ends.low is None:
        return ends
    return _paired(
        values, min(families, key=lambda family: family.fewest), ends, (1 - bootstrap.level) / 2
    )


def _fixed_if_extreme(
    family: MetricFamily, extreme: Extreme, tail: float, resamples: Resamples
) -> MetricFamily:
    """Return the family in which only those groups are fixed that could be the extreme group."""
    drawn, point = family.values[:, : 1 + resamples.replicates], family.values[:, 0]
    below, above = family.margins(tail)
    if extreme == "lowest":
        behind = point - below > np.fmax.reduce(np.fmin.reduce(drawn, axis=0))
    else:
        behind = point + above < np.fmin.reduce(np.fmax.reduce(drawn, axis=0))
    return replace(family, fixed=family.fixed & ~(behind & (family.trials > 0)))


def spread_interval(
    families: Sequence[MetricFamily], resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of the largest difference of any two groups in any of the families.

    Notes
    -----
    The largest of several differences is biased upwards, most of all where groups are close; its
    percentile interval may never contain the true value. Therefore all pairwise differences get
    simultaneous intervals (studentised, single step: the critical value is the quantile of the
    largest |t| over all pairs). The largest difference lies between the largest lower end and the
    largest upper end. The ends of each pair are those of `difference_interval` at the error rate
    of the critical value, so they are wider with fewer patients. ``docs/guides/measurement.md``
    has the coverage in simulations: about the nominal level where groups are equal, above it where
    they differ.
    """
    ends, mask = defined_resamples(families, resamples)
    if mask is None:
        return ends
    batches = (
        (values[first, 0] - values[first + 1 :, 0], values[first, 1:] - values[first + 1 :, 1:])
        for values in (family.values[:, mask] for family in families)
        for first in range(len(values) - 1)
    )
    _, critical = _largest_t(batches, bootstrap, families)
    tail = float(ndtr(-critical))
    blocks = [block for family in families for block in family.pair_ends(tail)]
    low, high, longest = map(max, zip(*blocks, strict=True))
    if not longest:
        return replace(ends, reason=CONSTANT)
    return _simultaneous(max(0.0, low), high, families, ends)


def extreme_interval(
    family: MetricFamily, extreme: Extreme, resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of the lowest or highest value of all groups.

    It is computed from simultaneous intervals of all groups, as in `spread_interval`.
    """
    ends, mask = defined_resamples([family], resamples)
    if mask is None:
        return ends
    values = family.values[:, mask]
    point, critical = _largest_t([(values[:, 0], values[:, 1:])], bootstrap, [family])
    below, above = family.margins(float(ndtr(-critical)))
    low, high = (
        end.min() if extreme == "lowest" else end.max() for end in (point - below, point + above)
    )
    return _simultaneous(low, high, [family], ends)


def clip(ends: Interval, bounds: tuple[float, float]) -> Interval:
    """Return the part of an interval that lies within bounds."""
    if ends.low is None or ends.high is None:
        return ends
    low, high = max(ends.low, bounds[0]), min(ends.high, bounds[1])
    return ends if (low, high) == (ends.low, ends.high) else replace(ends, low=low, high=high)


def defined_resamples(
    families: Sequence[MetricFamily], resamples: Resamples
) -> tuple[Interval, NDArray[np.bool_] | None]:
    """Return an interval without ends, and the mask ``(1 + B + J,)`` of the defined replicates.

    The mask is True for the data, too. It is None where there can be no interval: too few
    replicates are defined, or the standard error of some group is unknown.
    """
    values = np.concatenate([family.values for family in families])
    mask: NDArray[np.bool_] = ~np.isnan(values).any(axis=0)
    mask[1 + resamples.replicates :] = False
    undefined = resamples.replicates - np.count_nonzero(mask[1:])
    empty = replace(NO_INTERVAL, undefined=int(undefined))
    if not mask[0] or undefined > (1 - MIN_DEFINED) * resamples.replicates:
        return empty, None
    unknown = tuple(dict.fromkeys(name for family in families for name in family.unbounded))
    return (_no_interval(unknown, empty), None) if unknown else (empty, mask)


def _no_interval(names: Sequence[str], ends: Interval) -> Interval:
    """Return an interval without ends; the reason is that these groups' values never change."""
    return replace(ends, low=None, high=None, method=None, reason=unchanging_reason(names))


def _simultaneous(
    low: float, high: float, families: Sequence[MetricFamily], ends: Interval
) -> Interval:
    """Return an interval from simultaneous intervals of groups or pairs."""
    exact = any(family.trials.any() for family in families)
    method = "simultaneous and exact" if exact else "simultaneous"
    few = max(map(few_compared, families))
    return replace(ends, low=float(low), high=float(high), method=method, few=few)


def _largest_t(
    batches: Iterable[tuple[Floats, Floats]], bootstrap: Bootstrap, families: Sequence[MetricFamily]
) -> tuple[Floats, float]:
    """Return all values, and the quantile of the largest |t| over all values.

    A batch has values ``(m,)`` with their resamples ``(m, B)``. Batches are read one by one,
    because all pairs of many groups do not fit into memory. A share that no resample changes has no
    |t|; if there is one, the quantile is at least that of Bonferroni's correction.
    """
    values, largest = [], np.zeros(1)
    for point, drawn in batches:
        error = drawn.std(axis=1, ddof=1)
        t = drawn - point[:, None]
        np.abs(t, out=t)
        t /= np.where(error > 0, error, np.inf)[:, None]
        largest = np.maximum(largest, t.max(axis=0))
        values.append(point)
    points = np.concatenate(values)
    critical = float(np.quantile(largest, bootstrap.level))
    if critical == 0:  # nearly every resample equals the data, which does not mean certainty
        critical = -float(ndtri((1 - bootstrap.level) / 2))
    if any(family.fixed.any() for family in families):
        critical = max(critical, -float(ndtri((1 - bootstrap.level) / (2 * len(points)))))
    return points, critical


def _bca_tails(point: float, drawn: Floats, left_out: Floats, tails: Floats) -> Floats | None:
    """Return the quantiles of BCa that replace ``tails``, or None where BCa breaks down."""
    share = (np.count_nonzero(drawn < point) + np.count_nonzero(drawn <= point)) / (2 * len(drawn))
    changes = left_out.mean() - left_out
    squares = (changes**2).sum()
    if not 0 < share < 1 or not squares > 0:  # also where leaving a block out gives NaN
        return None
    bias, acceleration = ndtri(share), (changes**3).sum() / (6 * squares**1.5)
    z = bias + ndtri(tails)
    divisor = 1 - acceleration * z
    if (divisor <= 0).any():
        return None
    shifted: Floats = ndtr(bias + z / divisor)
    # There is no quantile beyond the outermost replicates.
    inside = (shifted * len(drawn) >= 1) & ((1 - shifted) * len(drawn) >= 1)
    return shifted if inside.all() else None
