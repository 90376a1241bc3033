"""Tests of "no difference", written beside the gaps that they are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from evenhand.measure.numbers import EVERYBODY, Parts
from evenhand.measure.permutation import Test, holm, permutation_test
from evenhand.measure.plan import Plan
from evenhand.measure.registry import find_metric


def with_tests(
    table: pd.DataFrame,
    divided: Sequence[Parts],
    plan: Plan,
    rng: np.random.Generator,
    step: Callable[[int], None],
) -> pd.DataFrame:
    """Return the rows with p-values in those of the gaps.

    The family that Holm's adjustment is over is every attribute × every metric that has a
    p-value; ``method`` says how many those are, or why there is none. ``step`` is told of each
    permutation.
    """
    tests = {}
    for parts in divided:
        groups = {level: parts.rows[level] for level in parts.compared}
        for name in plan.metrics:
            found = permutation_test(groups, find_metric(name), plan.permutations, rng)
            tests[parts.attribute, f"{name}_gap"] = found
            step(plan.permutations)
    p = np.array([np.nan if test.p is None else test.p for test in tests.values()])
    adjusted = dict(zip(tests, holm(p), strict=True))
    family = int(np.count_nonzero(~np.isnan(p)))
    table = table.copy()
    across = table["group"] == EVERYBODY
    for (attribute, metric), test in tests.items():
        at = across & (table["attribute"] == attribute) & (table["metric"] == metric)
        table.loc[at, "p"] = np.nan if test.p is None else test.p
        table.loc[at, "p_adjusted"] = adjusted[attribute, metric]
        said = _said(test, plan.permutations, family)
        table.loc[at, "method"] = [
            f"{how}; {said}" if pd.notna(how) else said for how in table[at]["method"]
        ]
    return table


def _said(test: Test, permutations: int, family: int) -> str:
    if test.reason:
        return test.reason
    lost = f", {test.undefined} undefined" if test.undefined else ""
    return f"p of {permutations} permutations of patients{lost}, Holm over {family}"
