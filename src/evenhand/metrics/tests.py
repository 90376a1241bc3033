"""Tests of "no difference", written beside the gaps that they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evenhand.metrics.estimates import EVERYBODY, Parts
from evenhand.metrics.permutation import Test, permutation_test
from evenhand.metrics.plan import Plan
from evenhand.metrics.registry import find_metric

Row = dict[str, Any]


def add_tests(
    rows: Mapping[tuple[str, str, str], Row],
    divided: Sequence[Parts],
    plan: Plan,
    rng: np.random.Generator,
    step: Callable[[int], None],
) -> list[Row]:
    """Put p-values into the rows of the gaps, and return the rows that have one.

    ``method`` says how it came about, or why there is none; ``step`` is told of each permutation.
    """
    tested = []
    for parts in divided:
        groups = {level: parts.rows[level] for level in parts.compared}
        for name in plan.metrics:
            found = permutation_test(groups, find_metric(name), plan.permutations, rng)
            step(plan.permutations)
            row = rows[parts.attribute, EVERYBODY, f"{name}_gap"]
            row["p"] = found.p
            row["method"] = "; ".join(filter(None, (row["method"], _said(found, plan))))
            tested += [] if found.p is None else [row]
    return tested


def _said(test: Test, plan: Plan) -> str:
    if test.reason:
        return test.reason
    lost = f", {test.undefined} undefined" if test.undefined else ""
    return f"p of {plan.permutations} permutations of patients{lost}"
