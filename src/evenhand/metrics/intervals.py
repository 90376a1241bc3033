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
from evenhand.metrics.families import MANY, SAME, Family, Scale, spread_of, t_quantile
from evenhand.metrics.registry import Floats
from evenhand.metrics.resample import Bootstrap, Resamples
from evenhand.wording import counted

ENOUGH = 0.5
"""Share of the replicates that must be defined for an interval to be given."""

CONSTANT = "the same in every resample"
"""Said of a number that resamples cannot tell anything about."""

NEARLY_CONSTANT = "the same in nearly every resample"
"""Said of a number whose percentiles coincide: an interval of no width would claim certainty."""

METHODS: Mapping[Scale, str] = {
    "share": "logit t",
    "mean": "skewed t",
    "coefficient": "t",
    "square": "conservative t",
    "plain": "t",
}
"""What an interval is called that is made by `Family.reach`."""


FEW, FEW_APART, FEW_MEAN, FEW_PAIRED, FEW_DRAWN = 10, 20, 40, 80, 160
"""Patients below which an interval is approximate: the simulations of ``docs/measurement.md`` do
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


def interval(values: Floats, resamples: Resamples, bootstrap: Bootstrap) -> Interval:
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
    none = replace(NONE, undefined=len(drawn) - len(defined))
    if np.isnan(values[0]) or len(defined) < ENOUGH * len(drawn):
        return none, None
    if np.ptp(defined) <= SAME * max(1, abs(values[0])):
        return replace(none, reason=CONSTANT), None
    return none, defined


def group_interval(of: Family, resamples: Resamples, bootstrap: Bootstrap) -> Interval:
    """Return the interval of one group's value; exact where it is a share that never changes.

    Where a share is 0 or 1 in the data it is so in every resample, and the bootstrap would claim
    to be certain. Five cancers found out of five do not prove a sensitivity of 1: there the
    interval is Clopper and Pearson's, with patients for trials.
    """
    found, defined = _defined(of.values[0], resamples)
    exact = found.is_constant and bool(of.trials[0])
    if not exact and defined is None:
        return found
    if not exact and bootstrap.method != "auto":
        return interval(of.values[0], resamples, bootstrap)
    at, tail = float(of.values[0, 0]), (1 - bootstrap.level) / 2
    below, above = (float(reach[0]) for reach in of.reach(tail))
    low, high = at - below, at + above
    if exact:
        return replace(found, low=low, high=high, method="exact", reason=None)
    return replace(found, low=low, high=high, method=METHODS[of.scale], few=_few(of))


def _few(of: Family) -> int:
    """Return the number of patients below which an interval is approximate; a square always is."""
    return {"square": MANY, "mean": FEW_MEAN}.get(of.scale, FEW)


def _few_apart(of: Family) -> int:
    """Return the same for what compares several groups."""
    return max(_few(of), FEW_APART) if of.scale == "share" else _few(of)


def difference_interval(
    values: Floats, of: Family, resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of the first of two values less the second, ``(1 + B + J,)``.

    The intervals of the two values are combined by MOVER (see `Family.pair_reach`). Two models on
    the same samples are so strongly correlated that the error of their difference is used directly,
    with Student's t.

    With percentiles or BCa the interval is that of the difference itself. A share of 0 or 1 does
    not vary in resamples, so its exact interval is combined with it; that assumes independent
    shares, which is conservative for two models on the same patients.
    """
    found, defined = _defined(values, resamples)
    if defined is None and not found.is_constant:
        return found
    if of.unbounded:
        return _no_interval(of.unbounded, found)
    if found.is_constant and not of.fixed.any():
        return found
    at, tail = float(values[0]), (1 - bootstrap.level) / 2
    if bootstrap.method == "auto" and not of.paired:
        below, above = (float(reach[0]) for reach in of.pair_reach(tail))
        method, few = _joined(METHODS[of.scale], of), 0 if of.fixed.all() else _few_apart(of)
        ends = replace(found, low=at - below, high=at + above)
        return replace(ends, method=method, few=few, reason=None)
    if defined is not None and bootstrap.method == "auto":
        found = _paired(values, of, found, tail)
    elif defined is not None:
        found = interval(values, resamples, bootstrap)
    return _with_exact(at, of, found, tail)


def _paired(values: Floats, of: Family, found: Interval, tail: float) -> Interval:
    """Return the interval of a difference of two models from its own resamples."""
    drawn = values[None, 1 : 1 + of.replicates]
    error, _ = spread_of(drawn, "coefficient" if of.scale == "coefficient" else "plain")
    reach = float(error[0] * t_quantile(tail, of.patients.min(keepdims=True))[0])
    at = float(values[0])
    few = FEW_PAIRED if of.scale == "mean" else _few(of)
    return replace(found, low=at - reach, high=at + reach, method="t", few=few)


def _with_exact(at: float, of: Family, found: Interval, tail: float) -> Interval:
    """Return an interval widened by the exact intervals of the fixed values."""
    if not of.fixed.any():
        return found
    low, high = (at, at) if found.low is None or found.high is None else (found.low, found.high)
    below, above = (np.where(of.fixed, reach, 0.0) for reach in of.reach(tail))
    return replace(
        found,
        low=at - math.hypot(at - low, below[0], above[1]),
        high=at + math.hypot(high - at, above[0], below[1]),
        method=_joined(found.method, of),
        reason=None,
    )


def _joined(method: str | None, of: Family) -> str:
    """Return the name of the method, extended where some values have exact intervals."""
    if of.fixed.all() or method is None:
        return "exact"
    return f"{method} and exact" if of.fixed.any() else method


def made_interval(
    values: Floats, families: Sequence[Family], resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of a number that combines several groups' values, other than by gap.

    It has none where one of those values never changes, as its error would count as 0.
    """
    combined = interval(values, resamples, bootstrap)
    fixed = [
        name
        for family in families
        for name, is_fixed in zip(family.names, family.fixed, strict=True)
        if is_fixed
    ]
    return _no_interval(tuple(dict.fromkeys(fixed)), combined) if fixed else combined


def extremes_difference_interval(
    values: Floats,
    families: Sequence[Family],
    which: Extreme,
    resamples: Resamples,
    bootstrap: Bootstrap,
) -> Interval:
    """Return the interval of one model's lowest or highest value less another's.

    A group that no resample changes stands in the way only where it could be the extreme: where
    the end of its exact interval (at the level of one of all the groups) is within what the
    extreme is in any resample.
    """
    tail = (1 - bootstrap.level) / 2 / sum(len(of.names) for of in families)
    in_reach = [_in_reach(of, which, tail, resamples) for of in families]
    made = made_interval(values, in_reach, resamples, bootstrap)
    if bootstrap.method != "auto" or made.low is None:
        return made
    return _paired(values, min(families, key=lambda of: of.fewest), made, (1 - bootstrap.level) / 2)


def _in_reach(of: Family, which: Extreme, tail: float, resamples: Resamples) -> Family:
    """Return the family with those groups alone as fixed that could be its extreme."""
    drawn, at = of.values[:, : 1 + resamples.replicates], of.values[:, 0]
    below, above = of.reach(tail)
    if which == "lowest":
        behind = at - below > np.fmax.reduce(np.fmin.reduce(drawn, axis=0))
    else:
        behind = at + above < np.fmin.reduce(np.fmax.reduce(drawn, axis=0))
    return replace(of, fixed=of.fixed & ~(behind & (of.trials > 0)))


def spread_interval(
    families: Sequence[Family], resamples: Resamples, bootstrap: Bootstrap
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
    ``docs/measurement.md``: about as often as it says where the groups are tied, more often
    where they are apart.
    """
    found, kept = _usable(families, resamples)
    if kept is None:
        return found
    batches = (
        (values[one, 0] - values[one + 1 :, 0], values[one, 1:] - values[one + 1 :, 1:])
        for values in (of.values[:, kept] for of in families)
        for one in range(len(values) - 1)
    )
    distance, critical = _largest_t(batches, bootstrap, families)
    reach = [of.pair_reach(float(ndtr(-critical))) for of in families]
    below, above = (np.concatenate(side) for side in zip(*reach, strict=True))
    if not (below.any() or above.any()):
        return replace(found, reason=CONSTANT)
    low = np.maximum(distance - below, -distance - above).max()
    high = np.maximum(distance + above, -distance + below).max()
    return _simultaneous(max(0.0, low), high, families, found)


def extreme_interval(
    of: Family, which: Extreme, resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of the lowest or highest of the groups' values.

    As in `spread_interval`, from intervals of all groups that hold at the same time.
    """
    found, kept = _usable([of], resamples)
    if kept is None:
        return found
    values = of.values[:, kept]
    at, critical = _largest_t([(values[:, 0], values[:, 1:])], bootstrap, [of])
    below, above = of.reach(float(ndtr(-critical)))
    low, high = (end.min() if which == "lowest" else end.max() for end in (at - below, at + above))
    return _simultaneous(low, high, [of], found)


def clipped(ends: Interval, bounds: tuple[float, float]) -> Interval:
    """Return the part of an interval that lies within bounds."""
    if ends.low is None or ends.high is None:
        return ends
    return replace(ends, low=max(ends.low, bounds[0]), high=min(ends.high, bounds[1]))


def _usable(
    families: Sequence[Family], resamples: Resamples
) -> tuple[Interval, NDArray[np.bool_] | None]:
    """Return an interval without ends, and the mask of the data and the defined replicates.

    None instead of the mask where there can be no interval: too few are defined, or nothing is
    known about some group's error.
    """
    values = np.concatenate([of.values for of in families])
    kept: NDArray[np.bool_] = ~np.isnan(values).any(axis=0)
    kept[1 + resamples.replicates :] = False
    undefined = resamples.replicates - np.count_nonzero(kept[1:])
    none = replace(NONE, undefined=int(undefined))
    if not kept[0] or undefined > (1 - ENOUGH) * resamples.replicates:
        return none, None
    unknown = tuple(dict.fromkeys(name for of in families for name in of.unbounded))
    return (_no_interval(unknown, none), None) if unknown else (none, kept)


def _no_interval(names: Sequence[str], found: Interval) -> Interval:
    """Return that there is none, as these groups' values never change."""
    return replace(found, low=None, high=None, method=None, reason=unchanging(names))


def _simultaneous(low: float, high: float, families: Sequence[Family], found: Interval) -> Interval:
    exact = any(of.trials.any() for of in families)
    method = "simultaneous and exact" if exact else "simultaneous"
    few = max(map(_few_apart, families))
    return replace(found, low=float(low), high=float(high), method=method, few=few)


def _largest_t(
    batches: Iterable[tuple[Floats, Floats]], bootstrap: Bootstrap, families: Sequence[Family]
) -> tuple[Floats, float]:
    """Return values, and the level's quantile of the largest |t| of all of them.

    Batches are values ``(m,)`` with their draws ``(m, B)``; one at a time is worked on, as the
    pairs of many groups are too many to be held at once. Where shares that no resample changes
    are among them, their |t| is not to be had, and the quantile is at least Bonferroni's.
    """
    values, largest = [], np.zeros(1)
    for at, drawn in batches:
        error = drawn.std(axis=1, ddof=1)
        t = drawn - at[:, None]
        np.abs(t, out=t)
        t /= np.where(error > 0, error, np.inf)[:, None]
        largest = np.maximum(largest, t.max(axis=0))
        values.append(at)
    found = np.concatenate(values)
    critical = float(np.quantile(largest, bootstrap.level))
    if critical == 0:  # nearly every resample is like the data, which is no certainty
        critical = -float(ndtri((1 - bootstrap.level) / 2))
    if any(of.fixed.any() for of in families):
        critical = max(critical, -float(ndtri((1 - bootstrap.level) / (2 * len(found)))))
    return found, critical


def _bca_tails(at: float, drawn: Floats, left_out: Floats, tails: Floats) -> Floats | None:
    """Return the quantiles that BCa takes instead of ``tails``, or None where it breaks down."""
    share = (np.count_nonzero(drawn < at) + np.count_nonzero(drawn <= at)) / (2 * len(drawn))
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
