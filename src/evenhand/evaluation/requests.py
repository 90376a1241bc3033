"""What is asked about a model: its attributes, its threshold and the plan of the measurement."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import Cut, cut_of, groups_in, rows_of
from evenhand.evaluation.settings import ChoiceSettings, MeasureSettings
from evenhand.metrics import (
    CLAIM,
    CONTRASTS,
    FAIRNESS,
    METRICS,
    SUMMARIES,
    Advice,
    Bootstrap,
    Groups,
    Plan,
    check_plan,
    excluded_groups,
    guide_errors,
    guide_representation,
    named_groups,
    policy,
)
from evenhand.settings import Settings
from evenhand.tables.predictions import Predictions
from evenhand.wording import counted

ACROSS = ("worst", "best", "gap", "difference", "detectable")
NAMED = ("equalized_odds_difference", "demographic_parity_difference")
"""Comparisons by default: of each metric, and by name where there are two classes."""


@dataclass(frozen=True, eq=False)
class Request:
    """A model's predictions and what is measured of them; everything named is there."""

    predictions: Predictions
    attributes: tuple[str, ...]
    cut: Cut
    plan: Plan


def measure_settings(settings: Settings, excluded: tuple[str, ...] = ()) -> MeasureSettings:
    """Return what the settings of a job ask of the measurement.

    A job that trains asks for the default, or for its choice, without the groups that it leaves
    out.
    """
    if isinstance(settings, MeasureSettings):
        return settings
    if isinstance(settings, ChoiceSettings):
        choice = settings.model_dump(include=set(ChoiceSettings.model_fields))
        return MeasureSettings(**choice, exclude_group=excluded)
    return MeasureSettings(exclude_group=excluded)


def resolve_requests(
    models: Mapping[str, Predictions],
    attributes: Sequence[str],
    settings: MeasureSettings,
    cuts: Mapping[str, Cut],
) -> dict[str, Request]:
    """Return what is measured of every model; check that it can be.

    Parameters
    ----------
    attributes
        The attributes and intersections that the settings name.
    cuts
        Thresholds that models come with, by model; they hold unless the settings give another.

    Raises
    ------
    EvenhandError
        If a metric, attribute, group or threshold that the settings name does not exist, or the
        split or the rows for the threshold are missing.
    """
    conditions = conditioned(attributes, settings.condition)
    groups = {
        name: groups_in(rows_of(predictions, settings.split), conditions)
        for name, predictions in models.items()
    }
    _check_known((*settings.exclude_group, *settings.reference), list(groups.values()))
    requests = {}
    for name, predictions in models.items():
        plan = _plan(settings, groups[name], two=len(predictions.classes) == 2)
        check_plan(plan, groups[name])
        cut = _cut(predictions, settings, cuts.get(name))
        requests[name] = Request(predictions, conditions, cut, plan)
    return requests


def check_choice(settings: MeasureSettings, groups: Mapping[str, Groups]) -> None:
    """Check that what is asked of models can be measured, before there are any.

    Raises
    ------
    EvenhandError
        If a metric, a group or a threshold that the settings name does not exist.
    """
    _check_known((*settings.exclude_group, *settings.reference), [groups])
    check_plan(_plan(settings, groups, two=True), groups)
    if settings.threshold:
        policy(settings.threshold)


def conditioned(attributes: Sequence[str], control: str | None) -> tuple[str, ...]:
    """Return attributes, and each of them within the levels of a third variable.

    Examples
    --------
    >>> conditioned(["sex"], "site")
    ('sex', 'sex|site')
    """
    within = [f"{name}|{control}" for name in attributes] if control else []
    return (*attributes, *within)


def permutations_note(
    models: Collection[str], attributes: Sequence[str], settings: MeasureSettings
) -> list[str]:
    """Return a note where too few permutations are asked for to claim any difference.

    Holm's adjustment multiplies the smallest p-value by the number of tests.
    """
    drawn = settings.permutations
    metrics = _distinct(
        *(advised.metric for advised in advice_of(settings)),
        *(_all_or(settings.metric, METRICS) or Plan().metrics),
    )
    tests = len(models) * len(conditioned(attributes, settings.condition)) * len(metrics)
    least = tests / (1 + drawn)
    if not drawn or least <= CLAIM:
        return []
    return [
        f"{drawn} permutations cannot show any difference: with {counted(tests, 'test')} the "
        f"smallest corrected p is {min(least, 1.0):.2g}. Give --permutations "
        f"{math.ceil(tests / CLAIM - 1e-9) - 1} at least, fewer metrics, or 0 to test by resamples."
    ]


def advice_of(settings: ChoiceSettings) -> tuple[Advice, ...]:
    """Return the metrics that the guide picks for the decision that the settings describe."""
    advice = []
    if settings.decision and settings.share:
        advice.append(guide_errors(settings.decision, settings.share))
    if settings.numbers:
        advice.append(guide_representation(settings.numbers))
    return tuple(advice)


def points(plan: Plan) -> Plan:
    """Return the plan without intervals and tests, for the splits that are not reported."""
    across = tuple(name for name in plan.across if name != "detectable")
    return Plan(plan.metrics, across, plan.excluded, plan.references, plan.minimum, None)


def _plan(settings: MeasureSettings, groups: Mapping[str, Groups], *, two: bool) -> Plan:
    advice = advice_of(settings)
    across = _all_or(settings.across, (*SUMMARIES, *CONTRASTS, "detectable", *FAIRNESS))
    across = across or ((*ACROSS, *NAMED) if two else ACROSS)
    tested = ("gap",) if settings.permutations else ()
    usual = Plan().metrics  # first, so that "all" has the usual headline
    return Plan(
        metrics=_distinct(
            *(advised.metric for advised in advice),
            *(_all_or(settings.metric, (*usual, *METRICS)) or usual),
        ),
        across=_distinct(
            *(name for advised in advice for name in advised.across), *across, *tested
        ),
        excluded=excluded_groups(_known(settings.exclude_group, groups), groups),
        references=_references(_known(settings.reference, groups), groups),
        minimum=settings.minimum,
        bootstrap=Bootstrap(settings.replicates, settings.level, settings.interval),
        permutations=settings.permutations,
    )


def _cut(predictions: Predictions, settings: MeasureSettings, brought: Cut | None) -> Cut:
    rule = policy(settings.threshold) if settings.threshold else None
    if brought and rule is None and settings.threshold_by is None:
        return brought
    return cut_of(predictions, rule, by=settings.threshold_by)


def _check_known(texts: Sequence[str], groups: Sequence[Mapping[str, Groups]]) -> None:
    """Refuse a group that no model has; one that only some have is left out of those alone."""
    levels: dict[str, dict[str, None]] = {}
    for of_model in groups:
        for attribute, own in of_model.items():
            levels.setdefault(attribute, {}).update(dict.fromkeys(own.levels))
    nobody = np.empty(0, dtype=np.intp)
    list(
        named_groups(texts, {name: Groups(nobody, tuple(names)) for name, names in levels.items()})
    )


def _known(texts: Sequence[str], groups: Mapping[str, Groups]) -> list[str]:
    subgroups = []
    for text in texts:
        with suppress(EvenhandError):
            subgroups += [text for _ in named_groups([text], groups)]
    return subgroups


def _references(texts: Sequence[str], groups: Mapping[str, Groups]) -> dict[str, str]:
    named = list(named_groups(texts, groups))
    for attribute in dict(named):
        levels = [other for name, other in named if name == attribute]
        if len(levels) > 1:
            raise EvenhandError(
                f"{attribute!r} has {len(levels)} references; name one: "
                f"{', '.join(map(repr, levels))}."
            )
    return dict(named)


def _all_or(names: Sequence[str], choices: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    return tuple(choices) if "all" in names else tuple(names)


def _distinct(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
