"""The metrics that verdicts look at."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.measure.registry import find_metric, is_metric

FIRST = ("sensitivity", "auc", "accuracy")
BESIDE = ("auc", "specificity")
"""Looked at, too, where the headline's metric leaves open whether groups differ."""


def headline_order(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return metrics in the order in which groups are told by them, the first that can be.

    Cases found come before an AUC; else the metric that was asked for first.

    Examples
    --------
    >>> headline_order(["auc", "sensitivity", "brier"]), headline_order(["brier", "auc"])
    (('sensitivity', 'auc', 'brier'), ('brier', 'auc'))
    """
    first = [name for name in FIRST if name in metrics] if metrics[0] == "auc" else []
    return tuple(dict.fromkeys((*first, *metrics)))


def leading_metric(metrics: Sequence[str]) -> str:
    """Return the metric that models are compared by: AUC, or the first that says what is better."""
    judging = [name for name in metrics if has_better(name)]
    return "auc" if "auc" in judging or not judging else judging[0]


def has_better(metric: str) -> bool:
    """Return whether higher or lower values of a metric are better."""
    return is_metric(metric) and find_metric(metric).direction in ("higher", "lower")
