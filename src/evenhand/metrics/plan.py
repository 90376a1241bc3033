"""What is to be measured, and whether all that it names is there."""

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
    """What is to be measured.

    Attributes
    ----------
    metrics
        Names of metrics, for everybody and for each group.
    across
        What is said across the groups of an attribute: of each metric (names in ``SUMMARIES`` and
        ``CONTRASTS``), or by a name in ``FAIRNESS``.
    excluded
        Levels that take no part in that, by attribute.
    references
        The level that signed differences and ratios are taken from, by attribute; elsewhere the
        one with the most samples.
    minimum
        A group with fewer samples is shown with its counts and makes no claim; nor is it compared.
    bootstrap
        How intervals are made; None for point values only.
    permutations
        For each gap of a metric, test "no difference" with so many permutations of whole patients
        (see `permutation_test`), corrected by Holm over all attributes × metrics, instead of the
        default test by resamples (see `judge`); 0 for none.
        Paired differences between models are not tested.
    judged
        The metrics that two models are compared by; none: the leading one.
    spreads
        The differences across groups that two models are compared by, too, by their full names
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
    """Check that everything that a plan names is there, before anything is measured.

    Raises
    ------
    EvenhandError
        A metric, comparison, attribute or level is not known, or two of them do not go together.
    """
    for name in plan.metrics:
        find_metric(name)
    check_across(plan.across)
    if plan.permutations and "gap" not in plan.across:
        raise EvenhandError("tests are shown with the gaps; ask for 'gap' across the groups, too.")
    attributes = {base_attribute(name): levels for name, levels in groups.items()}
    for attribute, level in _named_levels(plan):
        own = pick("attribute", attribute, attributes)
        pick(f"level of {attribute}", level, dict.fromkeys(own.levels))
    for attribute, reference in plan.references.items():
        if reference not in attributes[attribute].compared(plan.excluded.get(attribute, ())):
            raise EvenhandError(
                f"{reference!r} is the reference of {attribute!r} and takes no part in it; name "
                "another reference, or do not exclude it."
            )


def compared_levels(plan: Plan, attribute: str, groups: Groups) -> tuple[str, ...]:
    """Return the levels of an attribute that a plan compares.

    These are all but ``"unknown"``, the excluded ones and those with too few samples.

    Examples
    --------
    >>> from evenhand.metrics.groups import groups_of
    >>> compared_levels(Plan(minimum=2), "sex", groups_of(["f", "f", "m"]))
    ('f',)
    """
    levels = groups.compared(plan.excluded.get(base_attribute(attribute), ()))
    return tuple(level for level in levels if len(groups.rows(level)) >= plan.minimum)


def base_attribute(name: str) -> str:
    """Return the attribute that a conditioned one (``"sex|site=A"``) is a part of."""
    return name.partition("|")[0]


def _named_levels(plan: Plan) -> list[tuple[str, str]]:
    excluded = [(name, level) for name, levels in plan.excluded.items() for level in levels]
    return [*excluded, *plan.references.items()]
