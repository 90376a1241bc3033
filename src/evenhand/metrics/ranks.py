"""Recipes on several data sets: their ranks, Friedman's test, and each against a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import friedmanchisquare, rankdata

from evenhand.errors import EvenhandError
from evenhand.metrics.permutation import holm

FEWEST = 6
"""Data sets from which on ranks are tested."""


@dataclass(frozen=True)
class RankTest:
    """What the ranks of recipes on several data sets say.

    Attributes
    ----------
    ranks
        The mean rank of each recipe, 1 is best.
    p
        Friedman's test that all are alike; None below `FEWEST` data sets or three recipes.
    p_adjusted
        Of each recipe against the reference, corrected by Holm; none below `FEWEST` data sets.
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
        The number of each recipe by name, ``(D,)``, one for each data set.
    reference
        The recipe that the others are compared with.
    higher_is_better
        Whether a larger number gets the better rank.

    Raises
    ------
    EvenhandError
        A number is undefined.

    Notes
    -----
    Friedman's test (JASA 1937), then for each recipe the normal deviate of its mean rank less the
    reference's, with standard error √(k (k + 1) / 6 D), corrected by Holm (Demšar, JMLR 2006). With
    few data sets the deviate is approximate.

    Examples
    --------
    >>> values = {"erm": [0.7] * 8, "mine": [0.8] * 8, "worse": [0.6] * 8}
    >>> test = rank_recipes(values, "erm", higher_is_better=True)
    >>> test.ranks["mine"], round(test.p, 4), round(test.p_adjusted["mine"], 4)
    (1.0, 0.0003, 0.091)
    """
    table = np.array(list(values.values()), dtype=np.float64)  # (k, D)
    if not np.isfinite(table).all():
        raise EvenhandError("an entry's number is undefined, so that data sets cannot be ranked.")
    ranks = rankdata(-table if higher_is_better else table, axis=0).mean(axis=1)
    mean = dict(zip(values, (float(rank) for rank in ranks), strict=True))
    count, sets = table.shape
    if sets < FEWEST:
        return RankTest(mean, None, {})
    p = float(friedmanchisquare(*table).pvalue) if count > 2 else None
    error = math.sqrt(count * (count + 1) / (6 * sets))
    others = [name for name in values if name != reference]
    alone = [2 * float(ndtr(-abs(mean[name] - mean[reference]) / error)) for name in others]
    return RankTest(mean, p, dict(zip(others, map(float, holm(alone)), strict=True)))
