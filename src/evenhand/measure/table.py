"""Measure scored samples: one row per number, with its interval, its counts or its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError, pick
from evenhand.measure.asked import check_across, numbers_of
from evenhand.measure.groups import Excluded, Groups
from evenhand.measure.intervals import (
    NONE,
    Interval,
    difference_interval,
    extreme_interval,
    interval,
    made_interval,
    share_interval,
    spread_interval,
    within_unit,
)
from evenhand.measure.numbers import Number, Parts, everybody, parts_of
from evenhand.measure.registry import find_metric
from evenhand.measure.resample import Bootstrap, Progress, Resamples, resample
from evenhand.measure.scored import Scored
from evenhand.measure.tested import with_tests

NUMBERS = ("threshold", "value", "low", "high", "level", "p", "p_adjusted")
COUNTS = ("n", "patients", "positives", "replicates_undefined")
COLUMNS = (
    *("model", "against", "split", "attribute", "group", "metric"),
    *("threshold", "value", "low", "high", "level", "method", "p", "p_adjusted"),
    *(*COUNTS, "undefined"),
)
"""Columns of the rows, in order; the same as in ``metrics.json``."""

NOT_FINITE = "no finite value: it divides by 0, or its fit has no solution"


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
        (see `permutation_test`), adjusted by Holm over all attributes × metrics; 0 for no tests.
        Paired differences between models are not tested.
    """

    metrics: tuple[str, ...] = ("auc", "accuracy", "sensitivity", "specificity", "log_loss")
    across: tuple[str, ...] = ("worst", "best", "gap", "difference")
    excluded: Excluded = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    minimum: int = 0
    bootstrap: Bootstrap | None = field(default_factory=Bootstrap)
    permutations: int = 0


def measure(
    rows: Scored,
    groups: Mapping[str, Groups],
    plan: Plan | None = None,
    *,
    rng: np.random.Generator,
    against: Scored | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure everybody, each group of each attribute, and across the groups.

    Parameters
    ----------
    rows
        The samples (see `scored`).
    groups
        The level that each sample has, by attribute; an intersection is an attribute too.
    plan
        What is to be measured.
    rng
        Draws the patients. The same state draws the same patients, whatever is measured.
    against
        The same samples, in the same order, scored by another model. Every number is then the
        paired difference: this model's value less the other's, in the data and in each resample.
    progress
        Called now and then with how many resamples are done, and how many there are; it goes
        through once for everybody and again for each attribute. A metric whose form is `looped`
        takes long enough to want it.

    Returns
    -------
    pandas.DataFrame
        The columns ``COLUMNS``; ``model``, ``against`` and ``split`` are left for the caller.

    Raises
    ------
    EvenhandError
        A name in the plan is not known, or samples, groups and models do not go together.
    """
    plan = plan or Plan()
    check_plan(plan, groups)
    _check_rows(rows, groups, against)
    resamples = replace(resample(len(rows.members), plan.bootstrap, rng), progress=progress)
    divided = _divided(rows, groups, plan)
    numbers = _numbers(rows, divided, plan, resamples)
    if against is not None:
        others = _numbers(against, _divided(against, groups, plan), plan, resamples)
        numbers = [one.minus(other) for one, other in zip(numbers, others, strict=True)]
    table = as_table([_row(number, resamples, plan.bootstrap) for number in numbers])
    if plan.permutations and against is None:
        table = with_tests(table, divided, plan.metrics, plan.permutations, rng)
    return table


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a data frame with the columns ``COLUMNS``; what is null is missing."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    kinds = {name: "float64" if name in NUMBERS else "object" for name in COLUMNS}
    return table.astype({**kinds, **dict.fromkeys(COUNTS, "Int64")})


def as_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a data frame as ``metrics.json`` holds them: null for what is missing."""
    plain = table.astype("object").where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _divided(rows: Scored, groups: Mapping[str, Groups], plan: Plan) -> list[Parts]:
    return [
        parts_of(
            rows,
            name,
            levels,
            levels.compared(plan.excluded.get(_whole(name), ())),
            reference=plan.references.get(_whole(name)),
            minimum=plan.minimum,
        )
        for name, levels in groups.items()
    ]


def _whole(name: str) -> str:
    """Return the attribute that a conditioned one (``"sex|site=A"``) is a part of."""
    return name.partition("|")[0]


def _numbers(
    rows: Scored, divided: Sequence[Parts], plan: Plan, resamples: Resamples
) -> list[Number]:
    found = numbers_of(everybody(rows), plan.metrics, (), resamples)
    for parts in divided:
        found += numbers_of(parts, plan.metrics, plan.across, resamples)
    return found


def _interval(number: Number, resamples: Resamples, bootstrap: Bootstrap | None) -> Interval:
    if number.made == "point" or bootstrap is None:
        return NONE
    if number.reason:
        return interval(number.values, resamples, bootstrap)
    if number.made == "one":
        return share_interval(number.family[0], resamples, bootstrap)
    if number.made == "difference":
        return difference_interval(number.values, number.family[0], resamples, bootstrap)
    if number.made == "other":
        return made_interval(number.values, number.family, resamples, bootstrap)
    if number.made == "spread":
        ends = spread_interval(number.family, resamples, bootstrap)
    else:
        ends = extreme_interval(number.family[0], number.made, resamples, bootstrap)
    return within_unit(ends) if number.share else ends


def _row(number: Number, resamples: Resamples, bootstrap: Bootstrap | None) -> dict[str, Any]:
    """Return one row of the table."""
    value = float(number.values[0])
    ends = _interval(number, resamples, bootstrap)
    undefined = number.reason or (NOT_FINITE if math.isnan(value) else None)
    return {
        "attribute": number.attribute,
        "group": number.group,
        "metric": number.metric,
        "threshold": number.threshold,
        "value": None if undefined else value,
        "low": ends.low,
        "high": ends.high,
        "level": bootstrap.level if bootstrap and ends.low is not None else None,
        "method": "; ".join(filter(None, (ends.method, number.note))) or None,
        "n": len(number.rows),
        "patients": len(number.rows.members),
        "positives": int(number.rows.labels.sum()) if number.rows.binary else None,
        "replicates_undefined": ends.undefined if bootstrap else None,
        "undefined": undefined,
    }


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
    attributes = {_whole(name): levels for name, levels in groups.items()}
    for attribute, level in _named_levels(plan):
        known = pick("attribute", attribute, attributes).levels
        pick(f"level of {attribute}", level, dict.fromkeys(known))
    for attribute, reference in plan.references.items():
        if reference not in attributes[attribute].compared(plan.excluded.get(attribute, ())):
            raise EvenhandError(
                f"{reference!r} is the reference of {attribute!r} and takes no part in it; name "
                "another reference, or do not exclude it."
            )


def _check_rows(rows: Scored, groups: Mapping[str, Groups], against: Scored | None) -> None:
    if not len(rows):
        raise EvenhandError("there are no samples to measure.")
    for attribute, of_attribute in groups.items():
        if len(of_attribute.codes) != len(rows):
            raise EvenhandError(
                f"attribute {attribute!r} has {len(of_attribute.codes)} levels for {len(rows)} "
                "samples; there must be one for each."
            )
    same = against is None or (
        np.array_equal(rows.labels, against.labels)
        and np.array_equal(rows.patients, against.patients)
    )
    if not same:
        raise EvenhandError(
            "the two models were not scored on the same samples in the same order; labels and "
            "patients differ. Match their predictions by sample_id first."
        )


def _named_levels(plan: Plan) -> list[tuple[str, str]]:
    excluded = [(name, level) for name, levels in plan.excluded.items() for level in levels]
    return [*excluded, *plan.references.items()]
