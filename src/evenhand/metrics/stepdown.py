"""Step-down correction of the p-values of many tests that share their draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats

CELLS = 2**20
"""Number of statistics (tests × draws) in one block."""


@dataclass(frozen=True, eq=False)
class AdjustedP:
    """The results of m tests.

    Attributes
    ----------
    p
        ``(m,)``, the p-value of each test alone.
    p_adjusted
        ``(m,)``, the p-values corrected over all tests: the chance of a statistic at least this
        large if this difference and all differences with smaller statistics were 0.
    largest
        ``(B,)``, the largest statistic of each draw; NaN where none is defined.
    """

    p: Floats
    p_adjusted: Floats
    largest: Floats


def step_down(
    observed: Floats, drawn: Callable[[NDArray[np.intp]], Floats], draws: int
) -> AdjustedP:
    """Return p-values corrected over all tests by step-down max-t.

    Parameters
    ----------
    observed
        The statistics ``(m,)``, at least 0 and on the same scale; larger is stronger evidence.
    drawn
        Function of the positions ``(k,)`` of some tests; returns their statistics ``(k, B)`` under
        "no difference", from the same B draws for all tests; NaN where undefined. The array that
        it returns is overwritten.
    draws
        B, the number of draws.

    Notes
    -----
    Romano & Wolf, Econometrica 2005: the largest statistic is compared with the largest of all
    tests in each draw, the second largest with the largest of the remaining tests, and so on. As
    the tests share the draws, the correction is weaker for correlated tests than Holm's.

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
        np.fmax(statistics[0], largest, out=statistics[0])  # fmax ignores NaN
        np.fmax.accumulate(statistics, axis=0, out=statistics)
        adjusted[block] = np.maximum(p[block], _share(statistics, observed[block]))
        largest = statistics[-1].copy()
    largest_first = order[::-1]
    adjusted[largest_first] = np.maximum.accumulate(adjusted[largest_first])
    return AdjustedP(p, adjusted, largest)


def blocks(indices: NDArray[np.intp], draws: int) -> Iterator[NDArray[np.intp]]:
    """Yield blocks of positions; a block with all its draws has about `CELLS` numbers."""
    size = max(1, CELLS // max(draws, 1))
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _share(statistics: Floats, observed: Floats) -> Floats:
    """Return the shares ``(k,)`` of draws with at least the observed statistic.

    The observed statistic counts as one of the draws.
    """
    defined: NDArray[np.intp] | int = statistics.shape[1]
    if np.isnan(statistics.min()):
        defined = np.count_nonzero(~np.isnan(statistics), axis=1)
    share: Floats = (1 + np.count_nonzero(statistics >= observed[:, None], axis=1)) / (1 + defined)
    return share
