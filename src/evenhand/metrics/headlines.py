"""The metrics that verdicts look at."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.metrics.registry import find_metric, is_metric

FIRST = ("sensitivity", "auc", "accuracy")
BESIDE = ("auc", "specificity")
"""Further metrics that verdicts look at, where the headline's metric shows no difference."""


def headline_order(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return metrics in the order in which a page tries them for its headline about groups.

    Where AUC was requested first, sensitivity comes before it, as it counts cases; otherwise the
    order of the request stands. Metrics without intervals come last, as they cannot be tested.

    Examples
    --------
    >>> headline_order(["auc", "sensitivity", "brier"]), headline_order(["brier", "auc"])
    (('sensitivity', 'auc', 'brier'), ('brier', 'auc'))
    >>> headline_order(["ece", "brier"])
    ('brier', 'ece')
    """
    first = [name for name in FIRST if name in metrics] if metrics[0] == "auc" else []
    order = dict.fromkeys((*first, *metrics))
    return tuple(sorted(order, key=lambda name: not has_interval(name)))


def leading_metric(metrics: Sequence[str]) -> str:
    """Return the metric that models are compared by: AUC, or the first that says what is better."""
    judging = sorted(filter(has_better, metrics), key=lambda name: not has_interval(name))
    return "auc" if "auc" in judging or not judging else judging[0]


def has_interval(metric: str) -> bool:
    """Return whether resamples give a metric's error; a claim about any other would be false.

    The expected calibration error is raised by chance, the more in the smaller of two groups.
    """
    return not is_metric(metric) or find_metric(metric).no_interval is None


def has_better(metric: str) -> bool:
    """Return whether higher or lower values of a metric are better."""
    return is_metric(metric) and find_metric(metric).direction in ("higher", "lower")
