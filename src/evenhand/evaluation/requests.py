"""Turn settings into requests: what to measure of each model's predictions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from evenhand.errors import EvenhandError, count_text
from evenhand.evaluation.rows import DecisionThreshold, choose_cut, groups_in, split_rows
from evenhand.evaluation.settings import ChoiceSettings, GroupSettings, MeasureSettings
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
from evenhand.tables.attributes import UNKNOWN, with_intersections
from evenhand.tables.predictions import Predictions

DEFAULT_AGGREGATES = ("worst", "best", "gap", "difference", "detectable")
"""Aggregates of each metric that are measured by default."""

DEFAULT_FAIRNESS = ("equalized_odds_difference", "demographic_parity_difference")
"""Fairness metrics that are measured by default if there are two classes."""


@dataclass(frozen=True, eq=False)
class Request:
    """A model's predictions, and the attributes, threshold and plan with which to measure them.

    All attributes, groups and metrics exist in the predictions.
    """

    predictions: Predictions
    attributes: tuple[str, ...]
    cut: DecisionThreshold
    plan: Plan


def measure_settings(settings: Settings, excluded: tuple[str, ...] = ()) -> MeasureSettings:
    """Return the settings of the measurement for a job.

    Jobs that train use the defaults, or their `ChoiceSettings`; ``excluded`` are the groups that
    comparisons leave out.
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
    cuts: Mapping[str, DecisionThreshold],
) -> dict[str, Request]:
    """Return the request of each model, after checks that it can be measured.

    Parameters
    ----------
    attributes
        The attributes and intersections that the settings name.
    cuts
        Model → the threshold from the run that trained it; used unless the settings have another.

    Raises
    ------
    EvenhandError
        If a metric, attribute, group or threshold that the settings name does not exist, or the
        split or the rows for the threshold are missing.
    """
    conditions = with_condition(attributes, settings.condition)
    groups = {
        name: groups_in(split_rows(predictions, settings.split), conditions)
        for name, predictions in models.items()
    }
    _check_groups_exist((*settings.exclude_group, *settings.reference), list(groups.values()))
    requests = {}
    for name, predictions in models.items():
        plan = _plan(settings, groups[name], binary=len(predictions.classes) == 2)
        check_plan(plan, groups[name])
        cut = _choose_cut(predictions, settings, cuts.get(name))
        requests[name] = Request(predictions, conditions, cut, plan)
    return requests


def check_choice(settings: MeasureSettings, groups: Mapping[str, Groups]) -> None:
    """Check the settings of a measurement against groups, before any model exists.

    Raises
    ------
    EvenhandError
        If a metric, a group or a threshold that the settings name does not exist.
    """
    _check_groups_exist((*settings.exclude_group, *settings.reference), [groups])
    check_plan(_plan(settings, groups, binary=True), groups)
    if settings.threshold:
        policy(settings.threshold)


def with_condition(attributes: Sequence[str], control: str | None) -> tuple[str, ...]:
    """Return attributes and, with a third variable, each of them within its levels.

    Examples
    --------
    >>> with_condition(["sex"], "site")
    ('sex', 'sex|site')
    """
    within = [f"{name}|{control}" for name in attributes] if control else []
    return (*attributes, *within)


def permutations_note(
    models: Collection[str], attributes: Sequence[str], settings: MeasureSettings
) -> list[str]:
    """Return a note if the number of permutations is too small to claim any difference.

    Holm's correction multiplies the smallest p-value by the number of tests.
    """
    permutations = settings.permutations
    metrics = _distinct(
        *(advised.metric for advised in advice_of(settings)),
        *(_expand_all(settings.metric, METRICS) or Plan().metrics),
    )
    tests = len(models) * len(with_condition(attributes, settings.condition)) * len(metrics)
    smallest = tests / (1 + permutations)
    if not permutations or smallest <= CLAIM:
        return []
    return [
        f"{permutations} permutations cannot show any difference: with {count_text(tests, 'test')} "
        f"the smallest corrected p is {min(smallest, 1.0):.2g}. Give --permutations "
        f"{math.ceil(tests / CLAIM - 1e-9) - 1} at least, fewer metrics, or 0 to test by resamples."
    ]


def advice_of(settings: ChoiceSettings) -> tuple[Advice, ...]:
    """Return the guide's advice on metrics for the decision that the settings describe."""
    advice = []
    if settings.decision and settings.share:
        advice.append(guide_errors(settings.decision, settings.share))
    if settings.numbers:
        advice.append(guide_representation(settings.numbers))
    return tuple(advice)


def without_intervals(plan: Plan) -> Plan:
    """Return the plan without intervals and tests, for splits that are not reported."""
    across = tuple(name for name in plan.across if name != "detectable")
    return Plan(plan.metrics, across, plan.excluded, plan.references, plan.minimum, None)


def _plan(settings: MeasureSettings, groups: Mapping[str, Groups], *, binary: bool) -> Plan:
    advice = advice_of(settings)
    across = _expand_all(settings.across, (*SUMMARIES, *CONTRASTS, "detectable", *FAIRNESS))
    across = across or ((*DEFAULT_AGGREGATES, *DEFAULT_FAIRNESS) if binary else DEFAULT_AGGREGATES)
    tested = ("gap",) if settings.permutations else ()
    usual = Plan().metrics  # first, because the first metric leads the page
    return Plan(
        metrics=_distinct(
            *(advised.metric for advised in advice),
            *(_expand_all(settings.metric, (*usual, *METRICS)) or usual),
        ),
        across=_distinct(
            *(name for advised in advice for name in advised.across), *across, *tested
        ),
        excluded=excluded_groups(_existing_groups(settings.exclude_group, groups), groups),
        references=_references(_existing_groups(settings.reference, groups), groups),
        minimum=settings.minimum,
        bootstrap=Bootstrap(settings.replicates, settings.level, settings.interval),
        permutations=settings.permutations,
    )


def _choose_cut(
    predictions: Predictions, settings: MeasureSettings, from_run: DecisionThreshold | None
) -> DecisionThreshold:
    rule = policy(settings.threshold) if settings.threshold else None
    if from_run and rule is None and settings.threshold_by is None:
        return from_run
    return choose_cut(predictions, rule, by=settings.threshold_by)


def _check_groups_exist(texts: Sequence[str], groups: Sequence[Mapping[str, Groups]]) -> None:
    """Refuse ``ATTRIBUTE=LEVEL`` texts that name a group of no model."""
    levels: dict[str, dict[str, None]] = {}
    for model_groups in groups:
        for attribute, column in model_groups.items():
            levels.setdefault(attribute, {}).update(dict.fromkeys(column.levels))
    no_rows = np.empty(0, dtype=np.intp)
    every = {name: Groups(no_rows, tuple(names)) for name, names in levels.items()}
    for _ in named_groups(texts, every):
        pass


def _existing_groups(texts: Sequence[str], groups: Mapping[str, Groups]) -> list[str]:
    """Return the ``ATTRIBUTE=LEVEL`` texts that name a group of this model."""
    existing = []
    for text in texts:
        with suppress(EvenhandError):
            existing += [text for _ in named_groups([text], groups)]
    return existing


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


def _expand_all(
    names: Sequence[str], choices: Mapping[str, Any] | Sequence[str]
) -> tuple[str, ...]:
    return tuple(choices) if "all" in names else tuple(names)


def _distinct(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


FEWEST_PATIENTS = 20
FEWEST_OF_CLASS = 10


def why_too_small(patients: int, samples: int, positives: int | None) -> str | None:
    """Return the reason why a group is too small to compare; None if it is large enough.

    Parameters
    ----------
    patients, samples
        The number of patients and samples of the group.
    positives
        The number of its positive samples; None for more than two classes.

    Examples
    --------
    >>> why_too_small(19, 60, 30), why_too_small(50, 60, 55), why_too_small(50, 60, 30)
    ('19 patients; it takes 20', '5 negatives; it takes 10', None)
    """
    if patients < FEWEST_PATIENTS:
        return f"{count_text(patients, 'patient')}; it takes {FEWEST_PATIENTS}"
    if positives is None:
        return None
    for count, name in ((positives, "positive"), (samples - positives, "negative")):
        if count < FEWEST_OF_CLASS:
            return f"{count_text(count, name)}; it takes {FEWEST_OF_CLASS}"
    return None


GroupSettingsT = TypeVar("GroupSettingsT", bound=GroupSettings)


def resolve_intersections(
    settings: GroupSettingsT,
    attributes: Sequence[str],
    models: Mapping[str, Predictions],
    split: str,
) -> GroupSettingsT:
    """Return settings with the intersections in ``attribute``.

    Groups of intersections that are too small are added to ``exclude_group``.
    """
    every = with_intersections(attributes, settings.intersections)
    excluded = settings.exclude_group
    if settings.intersections > 1:
        excluded = tuple(dict.fromkeys((*excluded, *small_groups(models, every, split))))
    return settings.model_copy(update={"attribute": every, "exclude_group": excluded})


def small_groups(
    models: Mapping[str, Predictions], attributes: Sequence[str], split: str
) -> tuple[str, ...]:
    """Return the intersections that have too few rows for some model, as ``ATTRIBUTE=LEVEL``.

    Parameters
    ----------
    models
        The predictions of each model.
    attributes
        Names of attributes; only the groups of intersections (with ``*``, without ``|``) count.
    split
        The split whose rows are counted.
    """
    intersections = [name for name in attributes if "*" in name and "|" not in name]
    small: dict[str, None] = {}
    for predictions in models.values():
        rows = split_rows(predictions, split)
        positive = rows.labels == 1 if len(rows.classes) == 2 else None
        for name, groups in groups_in(rows, intersections).items():
            for level in groups.levels:
                members = groups.rows(level)
                patients = len(np.unique(rows.patients[0][members]))
                positives = None if positive is None else int(positive[members].sum())
                if level != UNKNOWN and why_too_small(patients, len(members), positives):
                    small[f"{name}={level}"] = None
    return tuple(small)
