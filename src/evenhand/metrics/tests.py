"""Tests of "no difference", written beside the gaps that they are about."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace

import numpy as np

from evenhand.metrics.estimates import Parts
from evenhand.metrics.permutation import Test, permutation_test
from evenhand.metrics.plan import Plan
from evenhand.metrics.registry import find_metric
from evenhand.metrics.rows import EVERYBODY, Key, MetricRow, joined


def add_tests(
    rows: MutableMapping[Key, MetricRow],
    divided: Sequence[Parts],
    plan: Plan,
    rng: np.random.Generator,
    step: Callable[[int], None],
) -> tuple[Key, ...]:
    """Put p-values into the rows of the gaps, and return the keys of those that have one.

    Where there is none, the row's ``note`` says why; ``step`` is told of each permutation.
    """
    tested = []
    for parts in divided:
        groups = {level: parts.rows[level] for level in parts.compared}
        for name in plan.metrics:
            test = permutation_test(groups, find_metric(name), plan.permutations, rng)
            step(plan.permutations)
            key = Key(parts.attribute, EVERYBODY, name, "gap")
            rows[key] = _tested(rows[key], test, plan)
            tested += [] if test.p is None else [key]
    return tuple(tested)


def _tested(row: MetricRow, test: Test, plan: Plan) -> MetricRow:
    """Return the row of a gap with the p-value of its test, or the reason why it has none."""
    if test.p is None:
        return replace(row, note=joined(row.note, test.reason))
    lost = f", {test.undefined} undefined" if test.undefined else ""
    return replace(row, p=test.p, p_method=f"{plan.permutations} permutations of patients{lost}")
