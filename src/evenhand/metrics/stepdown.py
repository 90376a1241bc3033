"""p-values of many tests, corrected together by the draws that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats

CELLS = 2**20
"""Tests × draws worked on at a time."""


@dataclass(frozen=True, eq=False)
class AdjustedP:
    """Results of testing m differences together.

    Attributes
    ----------
    p
        ``(m,)``, the p-value of each test alone.
    p_adjusted
        ``(m,)``, corrected over all tests: the chance of a statistic as large as this one, if this
        difference and all with smaller statistics were 0.
    largest
        ``(B,)``, the largest statistic of each draw; NaN where none is defined.
    """

    p: Floats
    p_adjusted: Floats
    largest: Floats


def step_down(
    observed: Floats, drawn: Callable[[NDArray[np.intp]], Floats], draws: int
) -> AdjustedP:
    """Test several differences together by the largest statistic, step by step.

    Parameters
    ----------
    observed
        ``(m,)`` statistics, at least 0 and all on one scale; larger is stronger evidence.
    drawn
        From the positions ``(k,)`` of some tests to their statistics ``(k, B)`` where nothing
        differs, the same draws for each test. NaN where a draw has none. An array of its own,
        which is written over.
    draws
        B.

    Notes
    -----
    Romano & Wolf, Econometrica 2005: the largest statistic is compared with the largest of all
    tests in each draw, the next one with the largest of the remaining tests, and so on. Because
    the draws are shared, correlated tests cost less than with Holm's adjustment.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> null = np.abs(rng.normal(size=(2, 999)))
    >>> step_down(np.array([0.5, 4.0]), null.__getitem__, 999).p_adjusted.round(3).tolist()
    [0.612, 0.001]
    """
    order = np.argsort(observed, kind="stable")
    largest = np.full(draws, np.nan)
    p, adjusted = np.empty(len(observed)), np.empty(len(observed))
    for block in blocks(order, draws):
        statistics = drawn(block)
        p[block] = _share(statistics, observed[block])
        np.fmax(statistics[0], largest, out=statistics[0])  # passes over NaN, as below
        np.fmax.accumulate(statistics, axis=0, out=statistics)
        adjusted[block] = np.maximum(p[block], _share(statistics, observed[block]))
        largest = statistics[-1].copy()
    surest_first = order[::-1]
    adjusted[surest_first] = np.maximum.accumulate(adjusted[surest_first])
    return AdjustedP(p, adjusted, largest)


def blocks(places: NDArray[np.intp], draws: int) -> Iterator[NDArray[np.intp]]:
    """Yield positions a few at a time, so that all draws of them can be held at once."""
    size = max(1, CELLS // max(draws, 1))
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _share(statistics: Floats, observed: Floats) -> Floats:
    """Return the shares ``(k,)`` of draws with at least the observed, itself counted in."""
    defined: NDArray[np.intp] | int = statistics.shape[1]
    if np.isnan(statistics.min()):
        defined = np.count_nonzero(~np.isnan(statistics), axis=1)
    share: Floats = (1 + np.count_nonzero(statistics >= observed[:, None], axis=1)) / (1 + defined)
    return share
