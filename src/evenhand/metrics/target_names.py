"""The names of targets, as the command line and settings write them."""

from __future__ import annotations

import math
from dataclasses import replace
from difflib import get_close_matches

from evenhand.earlier_names import TARGETS, current_target
from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.metrics.aggregates import SUMMARIES
from evenhand.metrics.fairness import FAIRNESS, Fairness
from evenhand.metrics.registry import METRICS, find_metric, is_metric
from evenhand.metrics.targets import ARGMAX, Target


def find_target(text: str, *, pessimistic: bool = False) -> Target:
    """Return the target that a text names: ``NAME[:ATTRIBUTE][=BOUND]``.

    NAME is a metric (its value for everybody), a metric with an aggregate over groups
    (``auc_worst``, ``log_loss_gap``), or a fairness metric (``equalized_odds_difference``). After a
    metric that needs decisions, ``_argmax`` decides for the class with the higher score.

    Raises
    ------
    EvenhandError
        There is no such target, it has no better direction, no model changes it, or the bound is
        not a finite number.

    Examples
    --------
    >>> find_target("min_auc").name, find_target("equalized_odds_difference=0.1").bound
    ('auc_worst', 0.1)
    """
    whole, equals, bound = current_target(text).partition("=")
    name, _, attribute = whole.partition(":")
    stem = name.removesuffix(ARGMAX)
    target = replace(
        _unbound(stem),
        attribute=attribute or None,
        cut="youden" if stem == name else "argmax",
        bound=_number(text, bound) if equals else None,
        pessimistic=pessimistic,
    )
    _refuse_meaningless(text, target)
    return target


def _unbound(stem: str) -> Target:
    """Return the target with a name, without attribute and bound."""
    if stem in FAIRNESS:
        return Target(FAIRNESS[stem], None)
    if is_metric(stem):
        return Target(find_metric(stem))
    for aggregate in SUMMARIES:
        metric = stem.removesuffix(f"_{aggregate}")
        if metric != stem and is_metric(metric):
            return Target(find_metric(metric), aggregate)
    raise _unknown(stem)


def _unknown(stem: str) -> UnknownNameError:
    across = [f"{metric}_{aggregate}" for metric in METRICS for aggregate in SUMMARIES]
    near = get_close_matches(stem, [*METRICS, *across, *FAIRNESS, *TARGETS], n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(
        f"no target {stem!r}; a target is a metric (its value for everybody), a metric with "
        f"{', '.join(f'_{aggregate}' for aggregate in SUMMARIES)} (auc_worst), or a fairness "
        f"metric. Metrics: {', '.join(sorted(METRICS))}. Fairness metrics: "
        f"{', '.join(sorted(FAIRNESS))}.{meant}"
    )


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise EvenhandError(f"--target {text}: it is written NAME=NUMBER, as in auc_gap=0.02.")
    return value


def _refuse_meaningless(text: str, target: Target) -> None:
    """Refuse a target that cannot be optimised, and parts of its name without effect."""
    problem = _no_direction(target)
    if all(metric.needs == "label" for metric in target.metrics):
        problem = "it is computed from labels alone, so no model changes it"
    elif target.cut == "argmax" and not any(
        metric.needs == "decision" for metric in target.metrics
    ):
        problem = f"{target.metric.name} needs no decisions; leave {ARGMAX} out"
    elif target.is_overall and target.attribute is not None:
        problem = f"it is about everybody; leave :{target.attribute} out"
    if problem:
        raise EvenhandError(f"--target {text}: {problem}.")


def _no_direction(target: Target) -> str | None:
    """Return why a target has no better direction, or None."""
    metric, gap = target.metric, target.aggregate in ("gap", "min_ratio")
    if isinstance(metric, Fairness) and metric.over == "reference":
        return f"{metric.name} is a number for each group, and a target is one across groups"
    if metric.direction in ("higher", "lower") or gap:
        return None
    instead = "" if isinstance(metric, Fairness) else f"; {metric.name}_gap has one"
    return f"neither a higher nor a lower {metric.name} is better{instead}"
