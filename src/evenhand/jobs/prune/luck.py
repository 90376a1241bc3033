"""Estimates how much of the chosen step's advantage is luck, on patients who did not choose it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.evaluation.rows import Cut, groups_in, metric_rows, paired_rows, scored_rows
from evenhand.jobs.prune.halves import Halves
from evenhand.jobs.prune.judge import VAL, Judge, across_of
from evenhand.metrics import EVERYBODY, Bootstrap, Plan, compared_levels
from evenhand.metrics.attribute_numbers import compute_numbers
from evenhand.metrics.intervals import MIN_DEFINED
from evenhand.metrics.numbers import divide_samples, undivided_samples
from evenhand.metrics.resample import as_resamples
from evenhand.metrics.scored import Scored
from evenhand.reporting.sections.luck import Luck, Span
from evenhand.tables.predictions import Predictions

Floats = NDArray[np.float64]

SEED = 0
BOOTSTRAP = Bootstrap()
HALVES = 100
"""Random halves on which the choice is repeated, where patients are too few for two that stay."""


def luck_of(judge: Judge, steps: Sequence[Predictions], winner: int) -> Luck | None:
    """Return the values of the chosen step where it was chosen, and those that others confirm.

    None where no step was chosen, or where one of these values is undefined.

    Parameters
    ----------
    judge
        The judge that chose the step.
    steps
        The validation rows as each step scores them, the untouched model first.
    winner
        The step that was chosen.
    """
    if winner == 0:
        return None
    if judge.halves is None:
        luck = _by_repeated_halves(judge, steps, winner)
    else:
        luck = _by_halves(judge, judge.halves, (steps[0], steps[winner]), winner)
    spans = (luck.chosen, luck.confirmed, luck.gain, luck.confirmed_gain, luck.luck)
    return luck if all(math.isfinite(span[0]) for span in spans) else None


def _by_halves(
    judge: Judge, halves: Halves, pair: tuple[Predictions, Predictions], winner: int
) -> Luck:
    """Return the luck as the difference between two halves of the patients."""
    before, after = (halves.split(part) for part in pair)
    cuts = judge.cut(after[0]), judge.cut(before[0])
    values, gains = zip(
        *(_spans(judge, both, cuts) for both in zip(after, before, strict=True)), strict=True
    )
    sign = -1.0 if not judge.target.maximise else 1.0
    chosen, confirmed = (_patients(part) for part in after)
    return Luck(
        metric=judge.target.row,
        lower_is_better=not judge.target.maximise,
        how="halves",
        step=winner,
        choosing=chosen,
        confirming=confirmed,
        chosen=values[0],
        confirmed=values[1],
        gain=gains[0],
        confirmed_gain=gains[1],
        luck=difference(_times(gains[0], sign), _times(gains[1], sign)),
    )


def _spans(
    judge: Judge, pair: tuple[Predictions, Predictions], cuts: tuple[Cut, Cut]
) -> tuple[Span, Span]:
    """Return the target of the first model, and its change from the second's."""
    plan, attributes = _plan(judge), [judge.attribute]
    alone = metric_rows(pair[0], attributes, model="", seed=SEED, plan=plan, split=VAL, cut=cuts[0])
    paired = paired_rows(
        pair, attributes, names=("", ""), seed=SEED, plan=plan, split=VAL, cuts=cuts
    )
    return _span(judge, alone), _span(judge, paired)


def difference(first: Span, second: Span) -> Span:
    """Return the difference of two independent estimates, with its interval.

    Its ends follow from those of both, symmetric or not (MOVER; Zou & Donner, Stat. Med. 2008).

    Examples
    --------
    >>> tuple(round(end, 3) for end in difference((0.5, 0.2, 0.8), (0.1, -0.3, 0.5)))
    (0.4, -0.1, 0.9)
    """
    (a, low_a, high_a), (b, low_b, high_b) = first, second
    if low_a is None or high_a is None or low_b is None or high_b is None:
        return a - b, None, None
    low, high = math.hypot(a - low_a, high_b - b), math.hypot(high_a - a, b - low_b)
    return a - b, a - b - low, a - b + high


def _by_repeated_halves(judge: Judge, steps: Sequence[Predictions], winner: int) -> Luck:
    """Return the luck by choosing again on many halves of the patients.

    On each random half, stratified by label and group, a step is chosen, and the other half
    measures it. How much worse it is there, on average, is the luck of a choice by half of the
    patients: both halves are of one size, so that what few patients do to a gap cancels. The error
    of a value falls with the root of the patients, and the luck with it: that of a choice by all of
    them is 1/√2 of it. The confirmed values are those of all patients less the luck.
    """
    values = [_on_halves(judge, step) for step in steps]
    judged = {name: np.array([own[name] for own in values]) for name in values[0]}
    target = judged[judge.target.row]  # (S, 1 + 2 H): all, the halves that choose, the others
    apart = []
    for half in range(1, 1 + HALVES):
        on_half = [
            {name: number[k, half] for name, number in judged.items()} for k in range(len(steps))
        ]
        if judge.undefined(on_half[0]) is None:
            chosen = judge.best(on_half)
            both = target[[chosen, 0]][:, [half + HALVES, half]]
            apart.append((both[0, 0] - both[0, 1], *(both[0] - both[1])))
    by, by_gain = _mean_luck(np.array(apart).reshape(-1, 3))
    pair = steps[winner], steps[0]
    value, change = _spans(judge, pair, (judge.cut(pair[0]), judge.cut(pair[1])))
    return Luck(
        metric=judge.target.row,
        lower_is_better=not judge.target.maximise,
        how="repeated halves",
        step=winner,
        choosing=_patients(steps[winner]),
        confirming=0,
        chosen=value,
        confirmed=_shifted(value, by),
        gain=change,
        confirmed_gain=_shifted(change, by_gain),
        luck=(by_gain if not judge.target.maximise else -by_gain, None, None),
    )


def _mean_luck(apart: Floats) -> tuple[float, float]:
    """Return the luck in the value and in the change of a choice by all patients.

    ``apart`` holds, of each half, the value elsewhere less that where it was chosen, the change
    elsewhere, and that where it was chosen. NaN where too few halves have them.
    """
    defined = apart[np.isfinite(apart).all(axis=1)]
    if len(defined) <= MIN_DEFINED * HALVES:
        return math.nan, math.nan
    value, elsewhere, chosen = defined.mean(axis=0) / math.sqrt(2)
    return float(value), float(elsewhere - chosen)


def _on_halves(judge: Judge, predictions: Predictions) -> dict[str, Floats]:
    """Return the numbers that steps are judged by, ``(1 + 2 H,)`` each.

    The first is of all patients, then come H halves of them, then the other halves. They are the
    same for every step.
    """
    rows = scored_rows(predictions, judge.cut(predictions))
    (groups,) = groups_in(predictions, [judge.attribute]).values()
    plan, metric = _plan(judge), judge.settings.budget_metric
    masks = _half_masks(rows, groups.codes, np.random.default_rng(SEED))
    parts = divide_samples(
        rows, judge.attribute, groups, compared_levels(plan, judge.attribute, groups)
    )
    overall = {judge.target.row: None} if judge.target.is_overall else {}
    values: dict[str, list[float]] = {judge.target.row: [], metric: []}
    everyone = np.ones((1, len(rows.members)), dtype=np.bool_)
    for weights in np.concatenate([everyone, masks, ~masks]).astype(np.uint8):
        # One half at a time: computed together, its gap would take the sign of the data's.
        draws = as_resamples(weights[None])
        numbers = [
            *compute_numbers(undivided_samples(rows), tuple({metric: None, **overall}), (), draws),
            *compute_numbers(parts, plan.metrics, plan.across, draws),
        ]
        for number in numbers:
            if number.group == "*" and number.metric in values:
                values[number.metric].append(float(number.values[0]))
    return {name: np.array(replicates) for name, replicates in values.items()}


def _half_masks(
    rows: Scored, groups: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which patients ``(H, P)`` each half holds, stratified by label and group."""
    first = np.unique(rows.patients, return_index=True)[1]
    labels = np.zeros(len(first), dtype=np.intp)
    np.maximum.at(labels, rows.patients, rows.labels)
    strata = labels * (groups.max() + 2) + groups[first]
    masks = np.zeros((HALVES, len(first)), dtype=np.bool_)
    for mask in masks:
        order = rng.permutation(len(first))
        ranked = order[np.argsort(strata[order], kind="stable")]  # strata in turn, at random inside
        mask[ranked[rng.integers(2) :: 2]] = True
    return masks


def _plan(judge: Judge) -> Plan:
    return Plan(
        metrics=tuple(metric.name for metric in judge.target.metrics),
        across=across_of(judge.target),
        excluded=judge.excluded,
        bootstrap=BOOTSTRAP,
    )


def _span(judge: Judge, rows: pd.DataFrame) -> Span:
    """Return the target's value and interval."""
    attribute = EVERYBODY if judge.target.is_overall else judge.attribute
    own = rows[(rows["attribute"] == attribute) & (rows["group"] == EVERYBODY)]
    row = own[own["metric"] == judge.target.row].iloc[0]
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    return (value, None, None) if math.isnan(low) or math.isnan(high) else (value, low, high)


def _times(span: Span, sign: float) -> Span:
    value, low, high = span
    if low is None or high is None:
        return sign * value, None, None
    first, last = sorted((sign * low, sign * high))
    return sign * value, first, last


def _shifted(span: Span, by: float) -> Span:
    value, low, high = span
    return value + by, None if low is None else low + by, None if high is None else high + by


def _patients(predictions: Predictions) -> int:
    return int(predictions.table["patient_id"].nunique())
