"""Differences that verdicts rest on, and all those of a page tested together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm, t

from evenhand.measure.families import SAME, Family
from evenhand.measure.permutation import holm
from evenhand.measure.registry import Floats
from evenhand.measure.stepdown import Adjusted, step_down

FEWEST = 0.5
"""Share of the resamples in which a difference must be defined to be tested."""

HALVINGS = 60
"""Steps of the search for the p-value of an exact interval."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two values that a difference is of, made ready for tests.

    Attributes
    ----------
    group
        Whose value it is.
    values
        ``(1 + B,)``, the value in the data and in the resamples.
    scaled
        The same on the scale of the test.
    cases
        How many independent cases say as much as it does.
    trials
        The patients behind a share of 0 or 1 that no resample changes, else 0.
    """

    group: str
    values: Floats
    scaled: Floats
    cases: float
    trials: int = 0

    @cached_property
    def error(self) -> float:
        """The standard error of the value."""
        return _spread(self.values[1:])

    @cached_property
    def variance(self) -> float:
        """The variance of the value on the scale of the test."""
        return _spread(self.scaled[1:]) ** 2

    @property
    def known(self) -> bool:
        """Whether there is a value, and something to tell its error from."""
        return not np.isnan(self.values[0]) and (self.trials > 0 or self.variance > SAME**2)


def side(group: str, values: Floats, patients: int, *, share: bool, trials: int = 0) -> Side:
    """Prepare a value and its resamples ``(1 + B,)`` of a group of so many patients.

    Notes
    -----
    Shares are tested as log odds: there the error depends less on the value, and resamples lie
    nearly even about it. Half a case is added on either side, which keeps 0 and 1 finite and takes
    off most of the bias (Haldane 1956; Anscombe 1956). The number of cases is that for which a
    binomial has the variance which the resamples of the patients show.
    """
    if not share:
        return Side(group, values, values, patients, trials)
    variance = _spread(values[1:]) ** 2
    cases = float(patients)
    if variance > SAME**2:
        cases = float(np.clip(values[0] * (1 - values[0]) / variance, 1.0, patients))
    odds = np.log((values * cases + 0.5) / ((1 - values) * cases + 0.5))
    return Side(group, values, odds, cases, trials)


def sides(of: Family, patients: Sequence[int], replicates: int, *, share: bool) -> list[Side]:
    """Prepare the values of several groups, of so many patients each."""
    return [
        side(name, values[: 1 + replicates], count, share=share, trials=int(trials))
        for name, values, count, trials in zip(
            of.names, of.values, patients, of.trials, strict=True
        )
    ]


def constant(group: str, like: Side, value: float) -> Side:
    """Return a share that is known, to hold another one against."""
    whole = np.full(len(like.values), value)
    return Side(group, whole, np.log(whole / (1 - whole)), np.inf)


@dataclass(frozen=True, eq=False)
class Contrast:
    """A difference that is 0 where nothing differs: one value less another."""

    first: Side
    second: Side

    @property
    def value(self) -> float:
        """The difference as it is reported."""
        return float(self.first.values[0] - self.second.values[0])

    @property
    def error(self) -> float:
        """The standard error of the difference as it is reported."""
        return _spread(self.first.values[1:] - self.second.values[1:])

    @property
    def exact(self) -> bool:
        """Whether a side never changes, so that resamples say too little of its error."""
        return self.first.trials + self.second.trials > 0

    def scaled(self) -> Floats:
        """Return the difference and its resamples ``(1 + B,)`` on the scale of the test."""
        return self.first.scaled - self.second.scaled

    @cached_property
    def scaled_error(self) -> float:
        """The standard error on the scale of the test; 0 where too few resamples have a value."""
        drawn = self.scaled()[1:]
        defined = np.count_nonzero(~np.isnan(drawn))
        return _spread(drawn) if defined >= max(2, FEWEST * len(drawn)) else 0.0

    @property
    def testable(self) -> bool:
        """Whether there is a difference, and something to tell its error from."""
        known = self.first.known or self.second.known
        return known and not np.isnan(self.value) and (self.exact or self.scaled_error > SAME)

    @property
    def degrees(self) -> float:
        """The degrees of freedom of the error (Satterthwaite 1946)."""
        parts = [(of.variance, max(of.cases - 1, 1)) for of in (self.first, self.second)]
        total = sum(variance for variance, _ in parts)
        return float(total**2 / sum(variance**2 / cases for variance, cases in parts))


@dataclass(frozen=True, eq=False)
class Together:
    """What comes of testing contrasts together.

    Attributes
    ----------
    p, p_adjusted
        ``(m,)``, of each by itself and over all; NaN where it cannot be tested.
    critical
        How many standard errors a difference must reach to be claimed.
    """

    p: Floats
    p_adjusted: Floats
    critical: float


def adjust_together(contrasts: Sequence[Contrast], level: float) -> Together:
    """Adjust p-values over contrasts of the same resamples (see `step_down`).

    Parameters
    ----------
    level
        The chance, at most, of claiming any difference where there is none.

    Notes
    -----
    A standardised difference counts as much as its t quantile does on the normal scale, with the
    degrees of freedom that its cases leave. Contrasts with a value that no resample changes have
    p-values from exact intervals, adjusted by Holm; the two kinds then share the level by their
    numbers.
    """
    p, adjusted = np.full(len(contrasts), np.nan), np.full(len(contrasts), np.nan)
    tested = [place for place, one in enumerate(contrasts) if one.testable]
    exact = [place for place in tested if contrasts[place].exact]
    drawn = [place for place in tested if not contrasts[place].exact]
    critical = 0.0
    if drawn:
        found = _by_draws([contrasts[place] for place in drawn])
        p[drawn], adjusted[drawn] = found.p, found.p_adjusted * len(tested) / len(drawn)
        critical = float(np.quantile(found.largest, 1 - level * len(drawn) / len(tested)))
    if exact:
        p[exact] = [_exact_p(contrasts[place]) for place in exact]
        adjusted[exact] = holm(p[exact]) * len(tested) / len(exact)
        critical = max(critical, float(norm.isf(level / (2 * len(tested)))))
    return Together(p, np.minimum(adjusted, 1.0), critical)


def _by_draws(contrasts: Sequence[Contrast]) -> Adjusted:
    """Test contrasts by their resamples."""
    errors = np.array([one.scaled_error for one in contrasts])
    at = np.array([one.first.scaled[0] - one.second.scaled[0] for one in contrasts])
    degrees = np.array([one.degrees for one in contrasts])
    observed = np.asarray(norm.isf(t.sf(np.abs(at) / errors, degrees)), dtype=np.float64)

    def drawn(place: int) -> Floats:
        values = contrasts[place].scaled()
        sizes: Floats = np.abs(values[1:] - values[0]) / errors[place]
        return sizes

    return step_down(observed, drawn, len(contrasts[0].first.values) - 1)


def _exact_p(contrast: Contrast) -> float:
    """Return twice the tail at which the exact interval of a difference begins at 0.

    The interval is that of `difference_interval`: the reaches of both sides towards each other,
    as the sides of a right triangle.
    """

    def reach(of: Side, tail: float) -> float:
        return 1 - tail ** (1 / of.trials) if of.trials else float(norm.isf(tail)) * of.error

    low, high = 0.0, 0.5
    for _ in range(HALVINGS):
        tail = (low + high) / 2
        away = math.hypot(reach(contrast.first, tail), reach(contrast.second, tail))
        covers = away >= abs(contrast.value)
        low, high = (tail, high) if covers else (low, tail)
    return min(1.0, 2 * high)


def _spread(drawn: Floats) -> float:
    """Return the standard deviation of what is defined, 0 for fewer than two values."""
    defined = drawn[~np.isnan(drawn)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
