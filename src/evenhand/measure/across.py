"""Numbers across the groups of an attribute, from the values of each group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evenhand.measure.registry import Floats, Metric

Summary = Callable[[Floats, Metric], Floats]
"""From values ``(groups, K)`` of a metric to ``(K,)``; an undefined group makes it NaN."""


def badness(values: Floats, metric: Metric) -> Floats:
    """Return values that grow as the metric gets worse."""
    if metric.direction == "higher":
        return -values
    if metric.direction == "ideal":
        return np.abs(values - (metric.ideal or 0.0))
    return values


def worst(values: Floats, metric: Metric) -> Floats:
    """Return the worst group's value."""
    return _at(values, np.argmax(badness(values, metric), axis=0))


def best(values: Floats, metric: Metric) -> Floats:
    """Return the best group's value."""
    return _at(values, np.argmin(badness(values, metric), axis=0))


def gap(values: Floats, metric: Metric) -> Floats:
    """Return the largest minus the smallest value."""
    spread: Floats = values.max(axis=0) - values.min(axis=0)
    return spread


def _at(values: Floats, group: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Floats:
    chosen: Floats = np.take_along_axis(values, group[None], axis=0)[0]
    return np.where(np.isnan(values).any(axis=0), np.nan, chosen)


SUMMARIES: dict[str, Summary] = {"worst": worst, "best": best, "gap": gap}
"""Rows call them ``auc_worst``, ``auc_best``, ``auc_gap``."""
