"""Intervals from the values of the resamples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from evenhand.errors import some
from evenhand.metrics.aggregates import Extreme
from evenhand.metrics.families import MANY, SAME, ErrorScale, MetricFamily, spread_of, t_quantile
from evenhand.metrics.registry import Floats
from evenhand.metrics.resample import Bootstrap, Resamples
from evenhand.wording import counted

ENOUGH = 0.5
"""Share of the replicates that must be defined for an interval to be given."""

CONSTANT = "the same in every resample"
"""Said of a number that resamples cannot tell anything about."""

NEARLY_CONSTANT = "the same in nearly every resample"
"""Said of a number whose percentiles coincide: an interval of no width would claim certainty."""

METHODS: Mapping[ErrorScale, str] = {
    "share": "logit t",
    "mean": "skewed t",
    "coefficient": "t",
    "square": "conservative t",
    "plain": "t",
}
"""What an interval is called that is made by `Family.reach`."""


FEW, FEW_APART, FEW_MEAN, FEW_PAIRED, FEW_DRAWN = 10, 20, 40, 80, 160
"""Patients below which an interval is approximate: the simulations of the guide on measurement do
not show that it holds. The first is for what `Family.reach` makes, the second for differences and
gaps of shares (which cover too often with fewer), the third for a mean, the fourth for the
difference of two models in a mean, the last for percentiles and BCa."""


@dataclass(frozen=True)
class Interval:
    """The interval of a number.

    Attributes
    ----------
    low, high
        Its ends; None where there is none.
    method
        How it was made.
    undefined
        Replicates in which the number is undefined.
    few
        The interval is approximate where fewer patients than this are behind the number.
    reason
        Why there is none, where resamples give none.
    approximate
        Why it may cover less often than it says, or None.
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

    def judged(self, patients: int) -> Interval:
        """Return the interval, marked as approximate where it rests on too few patients."""
        if self.low is None or patients >= self.few:
            return self
        return replace(self, approximate=counted(patients, "patient"))


NONE = Interval(None, None, None, 0)


def unchanging(names: Sequence[str]) -> str:
    """Return in words that resamples cannot give the error of some groups' values."""
    return f"{CONSTANT}: {some(map(repr, names))}"


def resampled_interval(values: Floats, resamples: Resamples, bootstrap: Bootstrap) -> Interval:
    """Return the interval of one number from its values ``(1 + B + J,)``.

    Undefined replicates are counted, and left out of the quantiles; where fewer than half of the
    replicates are defined there is no interval. BCa falls back to percentiles where it breaks
    down, and says so.
    """
    none, defined = _defined(values, resamples)
    if defined is None:
        return none
    tails = np.array([(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2])
    method = "percentile"
    if bootstrap.method == "bca":
        shifted = _bca_tails(values[0], defined, values[1 + resamples.replicates :], tails)
        method = "bca" if shifted is not None else "percentile (BCa breaks down)"
        tails = tails if shifted is None else shifted
    low, high = np.quantile(defined, tails)
    if high - low <= SAME * max(1, abs(values[0])):
        return replace(none, reason=NEARLY_CONSTANT)
    return replace(none, low=float(low), high=float(high), method=method, few=FEW_DRAWN)


def _defined(values: Floats, resamples: Resamples) -> tuple[Interval, Floats | None]:
    """Return an interval without ends, and the defined replicates.

    The replicates are None where too few are defined, or where all are equal; then the reason of
    the interval says so.
    """
    drawn = values[1 : 1 + resamples.replicates]
    defined = drawn[~np.isnan(drawn)]
    undefined = len(drawn) - len(defined)
    if np.isnan(values[0]) or len(defined) < ENOUGH * len(drawn):
        return Interval(None, None, None, undefined), None
    if defined.max() - defined.min() <= SAME * max(1, abs(values[0])):
        return Interval(None, None, None, undefined, reason=CONSTANT), None
    return Interval(None, None, None, undefined), defined


def group_interval(family: MetricFamily, resamples: Resamples, bootstrap: Bootstrap) -> Interval:
    """Return the interval of one group's value; exact where it is a share that never changes.

    Where a share is 0 or 1 in the data it is so in every resample, and the bootstrap would claim
    to be certain. Five cancers found out of five do not prove a sensitivity of 1: there the
    interval is Clopper and Pearson's, with patients for trials.
    """
    ends, defined = _defined(family.values[0], resamples)
    exact = ends.is_constant and bool(family.trials[0])
    if not exact and defined is None:
        return ends
    if not exact and bootstrap.method != "auto":
        return resampled_interval(family.values[0], resamples, bootstrap)
    point, tail = float(family.values[0, 0]), (1 - bootstrap.level) / 2
    below, above = (float(reach[0]) for reach in family.reach(tail))
    low, high = point - below, point + above
    if exact:
        return replace(ends, low=low, high=high, method="exact", reason=None)
    return replace(ends, low=low, high=high, method=METHODS[family.scale], few=_few(family))


def _few(family: MetricFamily) -> int:
    """Return the number of patients below which an interval is approximate; a square always is."""
    return {"square": MANY, "mean": FEW_MEAN}.get(family.scale, FEW)


def few_apart(family: MetricFamily) -> int:
    """Return the same for what compares several groups."""
    return max(_few(family), FEW_APART) if family.scale == "share" else _few(family)


def difference_interval(
    values: Floats, family: MetricFamily, resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of the first of two values less the second, ``(1 + B + J,)``.

    The intervals of the two values are combined by MOVER (see `Family.pair_reach`). Two models on
    the same samples are so strongly correlated that the error of their difference is used directly,
    with Student's t.

    With percentiles or BCa the interval is that of the difference itself. A share of 0 or 1 does
    not vary in resamples, so its exact interval is combined with it; that assumes independent
    shares, which is conservative for two models on the same patients.
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
        below, above = (float(reach[0]) for reach in family.pair_reach(tail))
        method, few = (
            _joined(METHODS[family.scale], family),
            0 if family.fixed.all() else few_apart(family),
        )
        low, high = point - below, point + above
        return replace(ends, low=low, high=high, method=method, few=few, reason=None)
    if defined is not None and bootstrap.method == "auto":
        ends = _paired(values, family, ends, tail)
    elif defined is not None:
        ends = resampled_interval(values, resamples, bootstrap)
    return _with_exact(point, family, ends, tail)


def _paired(values: Floats, family: MetricFamily, ends: Interval, tail: float) -> Interval:
    """Return the interval of a difference of two models from its own resamples."""
    drawn = values[None, 1 : 1 + family.replicates]
    error, _ = spread_of(drawn, "coefficient" if family.scale == "coefficient" else "plain")
    reach = float(error[0] * t_quantile(tail, family.patients.min(keepdims=True))[0])
    point = float(values[0])
    few = FEW_PAIRED if family.scale == "mean" else _few(family)
    return replace(ends, low=point - reach, high=point + reach, method="t", few=few)


def _with_exact(point: float, family: MetricFamily, ends: Interval, tail: float) -> Interval:
    """Return an interval widened by the exact intervals of the fixed values."""
    if not family.fixed.any():
        return ends
    low, high = (point, point) if ends.low is None or ends.high is None else (ends.low, ends.high)
    below, above = (np.where(family.fixed, reach, 0.0) for reach in family.reach(tail))
    return replace(
        ends,
        low=point - math.hypot(point - low, below[0], above[1]),
        high=point + math.hypot(high - point, above[0], below[1]),
        method=_joined(ends.method, family),
        reason=None,
    )


def _joined(method: str | None, family: MetricFamily) -> str:
    """Return the name of the method, extended where some values have exact intervals."""
    if family.fixed.all() or method is None:
        return "exact"
    return f"{method} and exact" if family.fixed.any() else method


def combined_interval(
    values: Floats, families: Sequence[MetricFamily], resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of a number that combines several groups' values, other than by gap.

    It has none where one of those values never changes, as its error would count as 0.
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
    which: Extreme,
    resamples: Resamples,
    bootstrap: Bootstrap,
) -> Interval:
    """Return the interval of one model's lowest or highest value less another's.

    A group that no resample changes stands in the way only where it could be the extreme: where
    the end of its exact interval (at the level of one of all the groups) is within what the
    extreme is in any resample.
    """
    tail = (1 - bootstrap.level) / 2 / sum(len(family.names) for family in families)
    in_reach = [_in_reach(family, which, tail, resamples) for family in families]
    ends = combined_interval(values, in_reach, resamples, bootstrap)
    if bootstrap.method != "auto" or ends.low is None:
        return ends
    return _paired(
        values, min(families, key=lambda family: family.fewest), ends, (1 - bootstrap.level) / 2
    )


def _in_reach(
    family: MetricFamily, which: Extreme, tail: float, resamples: Resamples
) -> MetricFamily:
    """Return the family with those groups alone as fixed that could be its extreme."""
    drawn, point = family.values[:, : 1 + resamples.replicates], family.values[:, 0]
    below, above = family.reach(tail)
    if which == "lowest":
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
    The largest of several differences is biased upwards, the more so the closer the groups are,
    and its plain percentile interval may never contain the truth. So all pairwise differences get
    intervals that hold at the same time (studentised, single step: the quantile of the largest
    |t| over pairs); the largest difference lies between the largest lower and the largest upper
    end. Each pair's ends are those of `difference_interval` at the error rate that this quantile
    leaves, so that they widen where there are few patients. How often it covers is in
    ``docs/guides/measurement.md``: about as often as it says where the groups are tied, more often
    where they are apart.
    """
    ends, kept = usable(families, resamples)
    if kept is None:
        return ends
    batches = (
        (values[place, 0] - values[place + 1 :, 0], values[place, 1:] - values[place + 1 :, 1:])
        for values in (family.values[:, kept] for family in families)
        for place in range(len(values) - 1)
    )
    _, critical = _largest_t(batches, bootstrap, families)
    tail = float(ndtr(-critical))
    every = [block for family in families for block in family.pair_ends(tail)]
    low, high, longest = map(max, zip(*every, strict=True))
    if not longest:
        return replace(ends, reason=CONSTANT)
    return _simultaneous(max(0.0, low), high, families, ends)


def extreme_interval(
    family: MetricFamily, which: Extreme, resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of the lowest or highest of the groups' values.

    As in `spread_interval`, from intervals of all groups that hold at the same time.
    """
    ends, kept = usable([family], resamples)
    if kept is None:
        return ends
    values = family.values[:, kept]
    point, critical = _largest_t([(values[:, 0], values[:, 1:])], bootstrap, [family])
    below, above = family.reach(float(ndtr(-critical)))
    low, high = (
        end.min() if which == "lowest" else end.max() for end in (point - below, point + above)
    )
    return _simultaneous(low, high, [family], ends)


def clipped(ends: Interval, bounds: tuple[float, float]) -> Interval:
    """Return the part of an interval that lies within bounds."""
    if ends.low is None or ends.high is None:
        return ends
    low, high = max(ends.low, bounds[0]), min(ends.high, bounds[1])
    return ends if (low, high) == (ends.low, ends.high) else replace(ends, low=low, high=high)


def usable(
    families: Sequence[MetricFamily], resamples: Resamples
) -> tuple[Interval, NDArray[np.bool_] | None]:
    """Return an interval without ends, and the mask of the data and the defined replicates.

    None instead of the mask where there can be no interval: too few are defined, or nothing is
    known about some group's error.
    """
    values = np.concatenate([family.values for family in families])
    kept: NDArray[np.bool_] = ~np.isnan(values).any(axis=0)
    kept[1 + resamples.replicates :] = False
    undefined = resamples.replicates - np.count_nonzero(kept[1:])
    none = replace(NONE, undefined=int(undefined))
    if not kept[0] or undefined > (1 - ENOUGH) * resamples.replicates:
        return none, None
    unknown = tuple(dict.fromkeys(name for family in families for name in family.unbounded))
    return (_no_interval(unknown, none), None) if unknown else (none, kept)


def _no_interval(names: Sequence[str], ends: Interval) -> Interval:
    """Return that there is none, as these groups' values never change."""
    return replace(ends, low=None, high=None, method=None, reason=unchanging(names))


def _simultaneous(
    low: float, high: float, families: Sequence[MetricFamily], ends: Interval
) -> Interval:
    exact = any(family.trials.any() for family in families)
    method = "simultaneous and exact" if exact else "simultaneous"
    few = max(map(few_apart, families))
    return replace(ends, low=float(low), high=float(high), method=method, few=few)


def _largest_t(
    batches: Iterable[tuple[Floats, Floats]], bootstrap: Bootstrap, families: Sequence[MetricFamily]
) -> tuple[Floats, float]:
    """Return values, and the level's quantile of the largest |t| of all of them.

    Batches are values ``(m,)`` with their draws ``(m, B)``; one at a time is worked on, as the
    pairs of many groups are too many to be held at once. Where shares that no resample changes
    are among them, their |t| is not to be had, and the quantile is at least Bonferroni's.
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
    if critical == 0:  # nearly every resample is like the data, which is no certainty
        critical = -float(ndtri((1 - bootstrap.level) / 2))
    if any(family.fixed.any() for family in families):
        critical = max(critical, -float(ndtri((1 - bootstrap.level) / (2 * len(points)))))
    return points, critical


def _bca_tails(point: float, drawn: Floats, left_out: Floats, tails: Floats) -> Floats | None:
    """Return the quantiles that BCa takes instead of ``tails``, or None where it breaks down."""
    share = (np.count_nonzero(drawn < point) + np.count_nonzero(drawn <= point)) / (2 * len(drawn))
    away = left_out.mean() - left_out
    squares = (away**2).sum()
    if not 0 < share < 1 or not squares > 0:  # NaN, too: a block that cannot be left out
        return None
    bias, acceleration = ndtri(share), (away**3).sum() / (6 * squares**1.5)
    z = bias + ndtri(tails)
    bend = 1 - acceleration * z
    if (bend <= 0).any():
        return None
    shifted: Floats = ndtr(bias + z / bend)
    # Beyond the outermost replicates a quantile is made up.
    inside = (shifted * len(drawn) >= 1) & ((1 - shifted) * len(drawn) >= 1)
    return shifted if inside.all() else None
