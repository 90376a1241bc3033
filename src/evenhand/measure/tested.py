"""Tests of "no difference", written beside the gaps that they are about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from evenhand.measure.numbers import EVERYBODY, Parts
from evenhand.measure.permutation import Test, holm, permutation_test
from evenhand.measure.registry import find_metric


def with_tests(
    table: pd.DataFrame,
    divided: Sequence[Parts],
    metrics: Sequence[str],
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return the rows with p-values in those of the gaps.

    The family that Holm's adjustment is over is every attribute × every metric that has a
    p-value; ``method`` says how many those are, or why there is none.
    """
    tests = {
        (parts.attribute, f"{name}_gap"): permutation_test(
            {level: parts.rows[level] for level in parts.compared},
            find_metric(name),
            permutations,
            rng,
        )
        for parts in divided
        for name in metrics
    }
    p = np.array([np.nan if test.p is None else test.p for test in tests.values()])
    adjusted = dict(zip(tests, holm(p), strict=True))
    family = int(np.count_nonzero(~np.isnan(p)))
    table = table.copy()
    across = table["group"] == EVERYBODY
    for (attribute, metric), test in tests.items():
        at = across & (table["attribute"] == attribute) & (table["metric"] == metric)
        table.loc[at, "p"] = np.nan if test.p is None else test.p
        table.loc[at, "p_adjusted"] = adjusted[attribute, metric]
        said = _said(test, permutations, family)
        table.loc[at, "method"] = [f"{how}; {said}" if how else said for how in table[at]["method"]]
    return table


def _said(test: Test, permutations: int, family: int) -> str:
    if test.reason:
        return test.reason
    lost = f", {test.undefined} undefined" if test.undefined else ""
    return f"p of {permutations} permutations of patients{lost}, Holm over {family}"
