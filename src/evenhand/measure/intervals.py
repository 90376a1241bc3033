"""Intervals from the values of the resamples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from evenhand.measure.across import Extreme
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


NONE = Interval(None, None, None, 0)
CONSTANT = "no interval: the same in every resample"
"""Said of a number that resamples cannot tell anything about, such as 5 of 5 less 7 of 7."""


def interval(values: Floats, resamples: Resamples, bootstrap: Bootstrap | None) -> Interval:
    """Return the interval of one number from its values ``(1 + B + J,)``.

    Undefined replicates are counted, and left out of the quantiles; where fewer than half of the
    replicates are defined there is no interval. BCa falls back to percentiles where it breaks
    down, and says so.
    """
    if bootstrap is None:
        return NONE
    drawn = values[1 : 1 + resamples.replicates]
    defined = drawn[~np.isnan(drawn)]
    none = replace(NONE, undefined=len(drawn) - len(defined))
    if np.isnan(values[0]) or len(defined) < ENOUGH * len(drawn):
        return none
    if np.ptp(defined) == 0:
        return replace(none, method=CONSTANT)
    tails = np.array([(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2])
    method: str = bootstrap.method
    if method == "bca":
        shifted = _bca_tails(values[0], defined, values[1 + resamples.replicates :], tails)
        method = "bca" if shifted is not None else "percentile (BCa breaks down)"
        tails = tails if shifted is None else shifted
    low, high = np.quantile(defined, tails)
    return replace(none, low=float(low), high=float(high), method=method)


def share_interval(
    values: Floats, patients: int, resamples: Resamples, bootstrap: Bootstrap | None
) -> Interval:
    """Return the interval of a share, values ``(1 + B + J,)`` in 0 … 1.

    Where a share is 0 or 1 in the data it is so in every resample, and the bootstrap would claim
    to be certain. Five cancers found out of five do not prove a sensitivity of 1: there the
    interval is Clopper and Pearson's (Biometrika 1934), with patients for trials.
    """
    found = interval(values, resamples, bootstrap)
    if bootstrap is None or found.method != CONSTANT or values[0] not in (0, 1):
        return found
    least = float(((1 - bootstrap.level) / 2) ** (1 / patients))
    low, high = (least, 1.0) if values[0] == 1 else (0.0, 1 - least)
    return replace(found, low=low, high=high, method="exact")


def spread_interval(
    families: Sequence[Floats], resamples: Resamples, bootstrap: Bootstrap | None
) -> Interval:
    """Return the interval of the largest difference of any two groups.

    Parameters
    ----------
    families
        Values ``(G, 1 + B + J)`` of the groups, one array for each metric; the number is the
        largest of their spreads.

    Notes
    -----
    The largest of several differences is biased upwards, the more so the closer the groups are,
    and its plain percentile interval may never contain the truth. So all pairwise differences get
    intervals that hold at the same time (studentised, single step: the quantile of the largest
    |t| over pairs); the largest difference lies between the largest lower and the largest upper
    end. It covers at least as often as it says.
    """
    if bootstrap is None:
        return NONE
    draws = slice(1, 1 + resamples.replicates)
    kept = ~np.any(np.isnan(np.concatenate(list(families))[:, draws]), axis=0)
    none = replace(NONE, undefined=int(np.count_nonzero(~kept)))
    points = np.concatenate([family[:, 0] for family in families])
    if np.isnan(points).any() or kept.sum() < ENOUGH * len(kept):
        return none
    pairs = (
        (family[one, 0] - family[one + 1 :, 0], (family[one, draws] - family[one + 1 :, draws]))
        for family in families
        for one in range(len(family) - 1)
    )
    batches = ((at, drawn[:, kept]) for at, drawn in pairs)
    distance, error, critical = _largest_t(batches, bootstrap)
    if not error.any():
        return replace(none, method=CONSTANT)
    low = np.maximum(0, (np.abs(distance) - critical * error).max())
    high = (np.abs(distance) + critical * error).max()
    return replace(none, low=float(low), high=float(high), method="simultaneous")


def extreme_interval(
    family: Floats, which: Extreme, resamples: Resamples, bootstrap: Bootstrap | None
) -> Interval:
    """Return the interval of the lowest or highest of the groups' values ``(G, 1 + B + J)``.

    As in `spread_interval`, from intervals of all groups that hold at the same time. Where the
    number is that of a group that resamples never change (5 of 5), nothing is claimed.
    """
    if bootstrap is None:
        return NONE
    drawn = family[:, 1 : 1 + resamples.replicates]
    kept = ~np.any(np.isnan(drawn), axis=0)
    none = replace(NONE, undefined=int(np.count_nonzero(~kept)))
    if np.isnan(family[:, 0]).any() or kept.sum() < ENOUGH * len(kept):
        return none
    at, error, critical = _largest_t([(family[:, 0], drawn[:, kept])], bootstrap)
    if not error[at.argmin() if which == "lowest" else at.argmax()] > 0:
        return replace(none, method=CONSTANT)
    ends = at - critical * error, at + critical * error
    low, high = (end.min() if which == "lowest" else end.max() for end in ends)
    return replace(none, low=float(low), high=float(high), method="simultaneous")


def within_unit(ends: Interval) -> Interval:
    """Return the part of an interval that lies in 0 … 1."""
    if ends.low is None or ends.high is None:
        return ends
    return replace(ends, low=max(ends.low, 0.0), high=min(ends.high, 1.0))


def _largest_t(
    batches: Iterable[tuple[Floats, Floats]], bootstrap: Bootstrap
) -> tuple[Floats, Floats, float]:
    """Return values, their errors, and the level's quantile of the largest |t| of all of them.

    Batches are values ``(m,)`` with their draws ``(m, B)``; one at a time is worked on, as the
    pairs of many groups are too many to be held at once.
    """
    values, errors, largest = [], [], np.zeros(1)
    for at, drawn in batches:
        error = drawn.std(axis=1, ddof=1)
        size = np.abs(drawn - at[:, None])
        t = np.divide(size, error[:, None], out=np.zeros_like(size), where=error[:, None] > 0)
        largest = np.maximum(largest, t.max(axis=0))
        values.append(at)
        errors.append(error)
    critical = float(np.quantile(largest, bootstrap.level))
    return np.concatenate(values), np.concatenate(errors), critical


def _bca_tails(at: float, drawn: Floats, left_out: Floats, tails: Floats) -> Floats | None:
    """Return the quantiles that BCa takes instead of ``tails``, or None where it breaks down."""
    share = (np.count_nonzero(drawn < at) + np.count_nonzero(drawn <= at)) / (2 * len(drawn))
    away = left_out.mean() - left_out
    squares = (away**2).sum()
    if not 0 < share < 1 or not squares > 0:  # NaN, too: a block that cannot be left out
        return None
    bias, acceleration = norm.ppf(share), (away**3).sum() / (6 * squares**1.5)
    z = bias + norm.ppf(tails)
    bend = 1 - acceleration * z
    if (bend <= 0).any():
        return None
    shifted: Floats = norm.cdf(bias + z / bend)
    # Beyond the outermost replicates a quantile is made up.
    inside = (shifted * len(drawn) >= 1) & ((1 - shifted) * len(drawn) >= 1)
    return shifted if inside.all() else None
