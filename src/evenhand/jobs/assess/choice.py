"""Metrics of stage 5 that the decision guide or the user picks, as in `evenhand audit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evenhand.evaluation.requests import advice_of
from evenhand.evaluation.settings import ChoiceSettings
from evenhand.metrics import METRICS, Groups, Plan, Scored
from evenhand.metrics.attribute_numbers import compute_numbers
from evenhand.metrics.numbers import divide_samples, undivided_samples
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import Key

SHOWN = ("sensitivity", "false_positive_rate", "squared_calibration_error", "auprc")
"""Metrics of each group that are always shown; only picked metrics are judged."""


def picked_metrics(settings: ChoiceSettings) -> tuple[str, ...]:
    """Return the metrics that the decision guide or the user picks; the page judges them."""
    chosen = tuple(METRICS) if "all" in settings.metric else settings.metric
    picked = dict.fromkeys((*(advice.metric for advice in advice_of(settings)), *chosen))
    return tuple(name for name in picked if name != "auc")  # the AUC is always judged


def measured_metrics(settings: ChoiceSettings) -> tuple[str, ...]:
    """Return all metrics that are measured besides the AUC."""
    return tuple(dict.fromkeys((*picked_metrics(settings), *SHOWN)))


def measure_chosen(
    rows: Scored,
    groups: Mapping[str, Groups],
    resamples: Resamples,
    plan: Plan,
    metrics: Sequence[str],
) -> dict[Key, Floats]:
    """Measure metrics of everybody and of each group, their gaps, and the plan's aggregates.

    Returns
    -------
    dict
        Values ``(1 + B,)`` by key: that of the data, then those of the resamples. They are NaN if
        the number is undefined.
    """
    others = [name for name in plan.across if name not in ("worst", "best", "detectable")]
    across = tuple(dict.fromkeys(("gap", *others)))
    numbers = compute_numbers(undivided_samples(rows), metrics, (), resamples)
    for name, levels in groups.items():
        compared = levels.compared(plan.excluded.get(name, ()))
        parts = divide_samples(rows, name, levels, compared, reference=plan.references.get(name))
        numbers += compute_numbers(parts, metrics, across, resamples)
    return {
        number.key: np.full_like(number.values, np.nan) if number.reason else number.values
        for number in numbers
    }


def judged_keys(keys: Iterable[Key], settings: ChoiceSettings) -> tuple[Key, ...]:
    """Return the keys of numbers that the page judges.

    They are the gap across groups of each picked metric, and its value in each group if the metric
    has a better direction.
    """
    picked = set(picked_metrics(settings))
    return tuple(key for key in keys if key.base in picked and _is_judged(key))


def _is_judged(key: Key) -> bool:
    if key.aggregate is not None:
        return key.aggregate == "gap"
    return key.attribute != "*" and find_metric(key.base).direction in ("higher", "lower")
