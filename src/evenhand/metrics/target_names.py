"""Reading the names of targets, as the command line and settings write them."""

from __future__ import annotations

import math
from dataclasses import replace
from difflib import get_close_matches

from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.metrics.aggregates import SUMMARIES
from evenhand.metrics.fairness import FAIRNESS, Fairness
from evenhand.metrics.registry import METRICS, find_metric, is_metric
from evenhand.metrics.targets import ARGMAX, Target
from evenhand.settings import TARGETS, current_target


def find_target(text: str, *, pessimistic: bool = False) -> Target:
    """Return the target that a text names: ``NAME[:ATTRIBUTE][=BOUND]``.

    NAME is a metric (its value for everybody), a metric with an aggregate over groups
    (``auc_worst``, ``log_loss_gap``), or a fairness metric (``equalized_odds_difference``). If the
    metric needs decisions, NAME may end in ``_argmax``: decisions are then the class with the
    higher score.

    Parameters
    ----------
    text
        The name, with an attribute and a bound where wanted.
    pessimistic
        Whether the worse end of the target's interval counts instead of its value.

    Raises
    ------
    EvenhandError
        If there is no such target, if no value of it is better than another, if it is computed
        from labels alone, or if the bound is not a finite number.

    Examples
    --------
    >>> find_target("min_auc").name, find_target("equalized_odds_difference=0.1").bound
    ('auc_worst', 0.1)
    """
    name_and_attribute, equals, bound = current_target(text).partition("=")
    name, _, attribute = name_and_attribute.partition(":")
    stem = name.removesuffix(ARGMAX)
    target = replace(
        _unbound(stem),
        attribute=attribute or None,
        decision_rule="youden" if stem == name else "argmax",
        bound=_read_bound(text, bound) if equals else None,
        pessimistic=pessimistic,
    )
    _refuse_meaningless(text, target)
    return target


def _unbound(stem: str) -> Target:
    """Return the target of a name that has neither attribute nor bound."""
    if stem in FAIRNESS:
        return Target(FAIRNESS[stem], None)
    if is_metric(stem):
        return Target(find_metric(stem))
    for aggregate in SUMMARIES:
        metric = stem.removesuffix(f"_{aggregate}")
        if metric != stem and is_metric(metric):
            return Target(find_metric(metric), aggregate)
    raise _unknown_name(stem)


def _unknown_name(stem: str) -> UnknownNameError:
    """Return the error for a name that is no target."""
    across = [f"{metric}_{aggregate}" for metric in METRICS for aggregate in SUMMARIES]
    matches = get_close_matches(stem, [*METRICS, *across, *FAIRNESS, *TARGETS], n=1)
    hint = f" Did you mean {matches[0]!r}?" if matches else ""
    return UnknownNameError(
        f"no target {stem!r}; a target is a metric (its value for everybody), a metric with "
        f"{', '.join(f'_{aggregate}' for aggregate in SUMMARIES)} (auc_worst), or a fairness "
        f"metric. Metrics: {', '.join(sorted(METRICS))}. Fairness metrics: "
        f"{', '.join(sorted(FAIRNESS))}.{hint}"
    )


def _read_bound(text: str, number: str) -> float:
    """Return the bound of a target, a finite number."""
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise EvenhandError(
            f"--target {text}: the bound {number!r} is not a finite number; write NAME=NUMBER, as "
            "in auc_gap=0.02."
        )
    return value


def _refuse_meaningless(text: str, target: Target) -> None:
    """Refuse a target that cannot be optimised, and parts of its name that have no effect."""
    problem = _no_direction(target)
    if all(metric.needs == "label" for metric in target.metrics):
        problem = "it is computed from labels alone, so no model changes it"
    elif target.decision_rule == "argmax" and not any(
        metric.needs == "decision" for metric in target.metrics
    ):
        problem = f"{target.metric.name} uses no decisions; leave {ARGMAX} out"
    elif target.is_overall and target.attribute is not None:
        problem = f"{target.metric.name} is about everybody; leave :{target.attribute} out"
    if problem:
        raise EvenhandError(f"--target {text}: {problem}.")


def _no_direction(target: Target) -> str | None:
    """Return why no value of a target is better than another, or None."""
    metric, gap = target.metric, target.aggregate in ("gap", "min_ratio")
    if isinstance(metric, Fairness) and metric.over == "reference":
        return f"{metric.name} is a number for each group, and a target is one number across groups"
    if metric.direction in ("higher", "lower") or gap:
        return None
    instead = "" if isinstance(metric, Fairness) else f"; use {metric.name}_gap instead"
    return f"neither a higher nor a lower {metric.name} is better{instead}"
