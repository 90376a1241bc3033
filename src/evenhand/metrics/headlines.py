"""The metrics that verdicts are about."""

from __future__ import annotations

from collections.abc import Sequence

from evenhand.metrics.registry import find_metric, is_metric

FIRST = ("sensitivity", "auc", "accuracy")
"""The metrics that a headline tries first, in this order, if AUC was requested first."""

BESIDE = ("auc", "specificity")
"""The metrics that verdicts are about in addition to the headline's metric."""


def headline_order(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return metrics in the order in which a page tries them for its headline about groups.

    If AUC was requested first, sensitivity comes before it, because sensitivity counts cases.
    Otherwise the order is that of the request. Metrics without intervals come last, because they
    cannot be tested.

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
    """Return the metric that models are compared by: AUC, else the first with a direction."""
    judging = sorted(filter(has_better, metrics), key=lambda name: not has_interval(name))
    return "auc" if "auc" in judging or not judging else judging[0]


def has_interval(metric: str) -> bool:
    """Return whether a metric has an interval, so that claims about it can be tested.

    The expected calibration error has none: chance raises it, and more so in smaller groups.
    """
    return not is_metric(metric) or find_metric(metric).no_interval is None


def has_better(metric: str) -> bool:
    """Return whether higher or lower values of a metric are better."""
    return is_metric(metric) and find_metric(metric).direction in ("higher", "lower")
