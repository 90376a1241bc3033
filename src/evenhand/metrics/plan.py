"""The plan of a measurement, and the check of the names in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evenhand.errors import EvenhandError, pick
from evenhand.metrics.attribute_numbers import check_across
from evenhand.metrics.groups import Excluded, Groups
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap


@dataclass(frozen=True)
class Plan:
    """The metrics and comparisons to measure.

    Attributes
    ----------
    metrics
        Names of the metrics to compute for everybody and for each group.
    across
        Names of the comparisons across the groups of each attribute: a name in ``SUMMARIES``,
        ``CONTRASTS`` or ``"detectable"`` compares each metric; a name in ``FAIRNESS`` is a metric
        of its own.
    excluded
        By attribute: the levels that take no part in comparisons.
    references
        By attribute: the reference level of signed differences and ratios. By default it is the
        level with the most samples.
    minimum
        The number of samples that a group needs to be compared. Smaller groups are shown with
        their counts, without claims.
    bootstrap
        How intervals are computed; None for values without intervals.
    permutations
        The number of permutations of whole patients that test each gap of a metric for "no
        difference" (see `permutation_test`), corrected by Holm over all attributes × metrics. They
        replace the default test by resamples (see `judge`). 0 means the default test. Differences
        between models are not tested by permutations.
    judged
        The metrics that two models are compared by; if empty, the leading metric.
    spreads
        Further numbers across groups that two models are compared by, with their full names
        (``"auc_gap"``, ``"equalized_odds_difference"``).
    """

    metrics: tuple[str, ...] = ("auc", "accuracy", "sensitivity", "specificity", "log_loss")
    across: tuple[str, ...] = ("worst", "best", "gap", "difference")
    excluded: Excluded = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    minimum: int = 0
    bootstrap: Bootstrap | None = field(default_factory=Bootstrap)
    permutations: int = 0
    judged: tuple[str, ...] = ()
    spreads: tuple[str, ...] = ()


def check_plan(plan: Plan, groups: Mapping[str, Groups]) -> None:
    """Check that all names in a plan exist and fit together.

    Raises
    ------
    EvenhandError
        If there is no such metric, comparison, attribute or level; if permutations are requested
        without gaps; or if a reference level is excluded.
    """
    for name in plan.metrics:
        find_metric(name)
    check_across(plan.across)
    if plan.permutations and "gap" not in plan.across:
        raise EvenhandError(
            "permutations test the gaps between groups, and 'gap' is not among the comparisons "
            "across groups; add it, or leave permutations out."
        )
    attributes = {base_attribute(name): levels for name, levels in groups.items()}
    for attribute, level in _named_levels(plan):
        levels = pick("attribute", attribute, attributes).levels
        pick(f"level of {attribute}", level, dict.fromkeys(levels))
    for attribute, reference in plan.references.items():
        if reference not in attributes[attribute].compared(plan.excluded.get(attribute, ())):
            raise EvenhandError(
                f"the reference level {reference!r} of {attribute!r} takes no part in comparisons; "
                "name another level, or do not exclude this one."
            )


def compared_levels(plan: Plan, attribute: str, groups: Groups) -> tuple[str, ...]:
    """Return the levels of an attribute that a plan compares.

    These are all levels except ``"unknown"``, excluded levels and levels with too few samples.

    Examples
    --------
    >>> from evenhand.metrics.groups import groups_of
    >>> compared_levels(Plan(minimum=2), "sex", groups_of(["f", "f", "m"]))
    ('f',)
    """
    levels = groups.compared(plan.excluded.get(base_attribute(attribute), ()))
    return tuple(level for level in levels if len(groups.rows(level)) >= plan.minimum)


def base_attribute(name: str) -> str:
    """Return the attribute of a conditional attribute: ``"sex"`` for ``"sex|site=A"``."""
    return name.partition("|")[0]


def _named_levels(plan: Plan) -> list[tuple[str, str]]:
    """Return attribute and level of all excluded and reference levels."""
    excluded = [(name, level) for name, levels in plan.excluded.items() for level in levels]
    return [*excluded, *plan.references.items()]
