"""Ranks of recipes on several data sets: Friedman's test, and comparisons with a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import friedmanchisquare, rankdata

from evenhand.errors import EvenhandError, first_few
from evenhand.metrics.permutation import holm

MIN_DATA_SETS = 6
"""Smallest number of data sets on which ranks are tested."""


@dataclass(frozen=True)
class RankTest:
    """Mean ranks of recipes on several data sets, and tests of them.

    Attributes
    ----------
    ranks
        The mean rank of each recipe; 1 is best.
    p
        The p-value of Friedman's test of "all recipes are equal"; None for fewer than
        `MIN_DATA_SETS` data sets or three recipes.
    p_adjusted
        The p-value of each recipe against the reference, corrected by Holm; empty for fewer than
        `MIN_DATA_SETS` data sets.
    """

    ranks: Mapping[str, float]
    p: float | None
    p_adjusted: Mapping[str, float]


def rank_recipes(
    values: Mapping[str, Sequence[float]], reference: str, *, higher_is_better: bool
) -> RankTest:
    """Rank recipes on each data set, and test their mean ranks.

    Parameters
    ----------
    values
        By recipe: its number on each of D data sets, ``(D,)``.
    reference
        The name of the recipe that the other recipes are compared with.
    higher_is_better
        Whether a larger number gets the better rank.

    Raises
    ------
    EvenhandError
        If a number is undefined.

    Notes
    -----
    Friedman's test (JASA 1937). Each of k recipes is then compared with the reference by the
    difference of their mean ranks over its standard error √(k (k + 1) / 6 D), a normal deviate,
    corrected by Holm (Demšar, JMLR 2006). It is approximate for few data sets.

    Examples
    --------
    >>> values = {"erm": [0.7] * 8, "mine": [0.8] * 8, "worse": [0.6] * 8}
    >>> test = rank_recipes(values, "erm", higher_is_better=True)
    >>> test.ranks["mine"], round(test.p, 4), round(test.p_adjusted["mine"], 4)
    (1.0, 0.0003, 0.091)
    """
    table = np.array(list(values.values()), dtype=np.float64)  # (k, D)
    undefined = [
        name for name, row in zip(values, table, strict=True) if not np.isfinite(row).all()
    ]
    if undefined:
        raise EvenhandError(
            f"the number of {first_few(map(repr, undefined))} is undefined on a data set, so "
            "entries cannot be ranked; leave these entries or that data set out."
        )
    ranks = rankdata(-table if higher_is_better else table, axis=0).mean(axis=1)
    mean = dict(zip(values, (float(rank) for rank in ranks), strict=True))
    count, sets = table.shape
    if sets < MIN_DATA_SETS:
        return RankTest(mean, None, {})
    p = float(friedmanchisquare(*table).pvalue) if count > 2 else None
    error = math.sqrt(count * (count + 1) / (6 * sets))
    others = [name for name in values if name != reference]
    uncorrected = [2 * float(ndtr(-abs(mean[name] - mean[reference]) / error)) for name in others]
    return RankTest(mean, p, dict(zip(others, map(float, holm(uncorrected)), strict=True)))
