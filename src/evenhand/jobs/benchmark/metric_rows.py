"""The rows of ``metrics.json`` of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evenhand.experiments.runs import Run
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.parity import percentile_interval
from evenhand.metrics.recipes import Difference
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import Key, MetricRow

METHOD = "percentile bootstrap of patients, mean over seeds"
PAIRED = {
    True: "t, patients (bootstrap) and paired seeds, corrected over the family",
    False: "t, patients (bootstrap), these models, corrected over the family",
}
"""The ``interval_method`` of differences: with several seeds, and with one."""

CORRECTED = "step-down max-t over entries and numbers"
CORRECTED_EXPLORATORY = "step-down max-t over what is exploratory, which the plan does not test"
"""The ``p_method`` of differences that the plan tests, and of exploratory ones."""

REASON = "a group lacks a class"
"""The reason of undefined numbers."""


def write_numbers(run: Run, result: Result) -> None:
    """Write a row for each number of each entry, and for each difference from erm."""
    rows = [
        _value_row(result, name, key, values)
        for name, numbers in result.values.items()
        for key, values in numbers.items()
    ]
    run.write_metrics([*rows, *_difference_rows(result)])


def _value_row(result: Result, name: str, key: Key, values: Floats) -> MetricRow:
    mean = values.mean(axis=0)
    value = float(mean[0]) if mean[0] == mean[0] else None
    low, high = percentile_interval(mean) or (None, None)
    return _row(result, name, key, value, low, high, METHOD)


def _difference_rows(result: Result) -> Iterator[MetricRow]:
    for difference in result.differences:
        row = _row(
            result,
            difference.recipe,
            difference.key,
            difference.value,
            difference.low,
            difference.high,
            PAIRED[result.seeds > 1],
        )
        yield replace(
            row,
            against=ERM,
            p=difference.p,
            p_adjusted=difference.p_adjusted,
            p_method=_p_method(result, difference),
        )


def _p_method(result: Result, difference: Difference) -> str | None:
    if difference.p_adjusted is None:
        return None
    return CORRECTED if result.is_planned(difference) else CORRECTED_EXPLORATORY


def _row(
    result: Result,
    name: str,
    key: Key,
    value: float | None,
    low: float | None,
    high: float | None,
    method: str,
) -> MetricRow:
    n, patients, positives = result.sizes[key]
    return MetricRow(
        model=name,
        split="test",
        attribute=key.attribute,
        group=key.group,
        base=key.base,
        aggregate=key.aggregate,
        value=value,
        low=low if value is not None else None,
        high=high if value is not None else None,
        level=None if low is None else 1 - CLAIM,
        interval_method=None if low is None else method,
        n=n,
        patients=patients,
        positives=positives,
        undefined=REASON if value is None else None,
    )
