"""Estimate how much of the chosen step's advantage is luck.

A step is chosen by the value of its target on some patients, and confirmed on other patients; the
difference of the two values estimates the luck of the choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.evaluation.rows import (
    DecisionThreshold,
    groups_in,
    metric_rows,
    paired_rows,
    scored_rows,
)
from evenhand.jobs.prune.judge import VAL, Halves, Judge, target_aggregates
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
"""The number of random halves if patients are too few for two fixed halves."""


def measure_luck(judge: Judge, steps: Sequence[Predictions], chosen: int) -> Luck | None:
    """Return the values of the chosen step on the choosing and on the confirming patients.

    Parameters
    ----------
    judge
        The judge that chose the step.
    steps
        The predictions of validation rows by each step, the untouched model first.
    chosen
        The number of the chosen step.

    Returns
    -------
    Luck or None
        None if the untouched model (step 0) was chosen, or one of the values is undefined.
    """
    if chosen == 0:
        return None
    if judge.halves is None:
        luck = _repeated_halves_luck(judge, steps, chosen)
    else:
        luck = _halves_luck(judge, judge.halves, (steps[0], steps[chosen]), chosen)
    spans = (luck.chosen, luck.confirmed, luck.gain, luck.confirmed_gain, luck.luck)
    return luck if all(math.isfinite(span[0]) for span in spans) else None


def _halves_luck(
    judge: Judge, halves: Halves, pair: tuple[Predictions, Predictions], step: int
) -> Luck:
    """Return the luck as the difference between the choosing and the confirming half."""
    before, after = (halves.split(predictions) for predictions in pair)
    cuts = judge.cut(after[0]), judge.cut(before[0])
    values, gains = zip(
        *(_spans(judge, models, cuts) for models in zip(after, before, strict=True)), strict=True
    )
    sign = -1.0 if not judge.target.maximise else 1.0
    chosen, confirmed = (_patients(part) for part in after)
    return Luck(
        metric=judge.target.row_metric,
        lower_is_better=not judge.target.maximise,
        how="halves",
        step=step,
        choosing=chosen,
        confirming=confirmed,
        chosen=values[0],
        confirmed=values[1],
        gain=gains[0],
        confirmed_gain=gains[1],
        luck=span_difference(_multiply(gains[0], sign), _multiply(gains[1], sign)),
    )


def _spans(
    judge: Judge,
    pair: tuple[Predictions, Predictions],
    cuts: tuple[DecisionThreshold, DecisionThreshold],
) -> tuple[Span, Span]:
    """Return the target of the first model, and its difference from that of the second."""
    plan, attributes = _plan(judge), [judge.attribute]
    value_rows = metric_rows(
        pair[0], attributes, model="", seed=SEED, plan=plan, split=VAL, cut=cuts[0]
    )
    difference_rows = paired_rows(
        pair, attributes, names=("", ""), seed=SEED, plan=plan, split=VAL, cuts=cuts
    )
    return _span(judge, value_rows), _span(judge, difference_rows)


def span_difference(first: Span, second: Span) -> Span:
    """Return the difference of two independent estimates, with its interval.

    The interval follows from both intervals, which need not be symmetric (MOVER; Zou & Donner,
    Stat. Med. 2008).

    Examples
    --------
    >>> tuple(round(end, 3) for end in span_difference((0.5, 0.2, 0.8), (0.1, -0.3, 0.5)))
    (0.4, -0.1, 0.9)
    """
    (a, low_a, high_a), (b, low_b, high_b) = first, second
    if low_a is None or high_a is None or low_b is None or high_b is None:
        return a - b, None, None
    low, high = math.hypot(a - low_a, high_b - b), math.hypot(high_a - a, b - low_b)
    return a - b, a - b - low, a - b + high


def _repeated_halves_luck(judge: Judge, steps: Sequence[Predictions], step: int) -> Luck:
    """Return the luck, estimated by repeating the choice on many halves of the patients.

    On each random half, stratified by label and group, a step is chosen, and the other half
    measures it. The mean difference between the two values is the luck of a choice by half of the
    patients. As the halves have the same size, the bias of a gap in few patients cancels. The
    standard error of a value is inversely proportional to the root of the number of patients, and
    so is the luck: for a choice by all patients it is 1/√2 of that difference. The confirmed values
    are those of all patients minus the luck.
    """
    values_by_step = [_half_values(judge, predictions) for predictions in steps]
    numbers = {
        name: np.array([values[name] for values in values_by_step]) for name in values_by_step[0]
    }
    # (S, 1 + 2 H): on all patients, on choosing halves, on confirming halves
    target = numbers[judge.target.row_metric]
    differences = []
    for half in range(1, 1 + HALVES):
        on_half = [
            {name: number[k, half] for name, number in numbers.items()} for k in range(len(steps))
        ]
        if judge.undefined_name(on_half[0]) is None:
            best = judge.best_step(on_half)
            both = target[[best, 0]][:, [half + HALVES, half]]
            differences.append((both[0, 0] - both[0, 1], *(both[0] - both[1])))
    value_shift, gain_shift = _mean_luck(np.array(differences).reshape(-1, 3))
    pair = steps[step], steps[0]
    value, gain = _spans(judge, pair, (judge.cut(pair[0]), judge.cut(pair[1])))
    return Luck(
        metric=judge.target.row_metric,
        lower_is_better=not judge.target.maximise,
        how="repeated halves",
        step=step,
        choosing=_patients(steps[step]),
        confirming=0,
        chosen=value,
        confirmed=_shift(value, value_shift),
        gain=gain,
        confirmed_gain=_shift(gain, gain_shift),
        luck=(gain_shift if not judge.target.maximise else -gain_shift, None, None),
    )


def _mean_luck(differences: Floats) -> tuple[float, float]:
    """Return the shift by luck, of the value and of the gain, for a choice by all patients.

    Parameters
    ----------
    differences
        ``(H, 3)``, for each half: the value on the confirming half minus that on the choosing half,
        the gain on the confirming half, and the gain on the choosing half.

    Returns
    -------
    tuple
        The shift of the value and that of the gain; NaN if too few halves have defined values.
    """
    defined = differences[np.isfinite(differences).all(axis=1)]
    if len(defined) <= MIN_DEFINED * HALVES:
        return math.nan, math.nan
    value, confirmed_gain, chosen_gain = defined.mean(axis=0) / math.sqrt(2)
    return float(value), float(confirmed_gain - chosen_gain)


def _half_values(judge: Judge, predictions: Predictions) -> dict[str, Floats]:
    """Return the numbers that judge steps, ``(1 + 2 H,)`` each.

    The first value is of all patients, the next H values are of random halves, and the last H
    values are of the other halves. The halves are the same for every step.
    """
    rows = scored_rows(predictions, judge.cut(predictions))
    (groups,) = groups_in(predictions, [judge.attribute]).values()
    plan, metric = _plan(judge), judge.budget_metric
    masks = _half_masks(rows, groups.codes, np.random.default_rng(SEED))
    parts = divide_samples(
        rows, judge.attribute, groups, compared_levels(plan, judge.attribute, groups)
    )
    overall = {judge.target.row_metric: None} if judge.target.is_overall else {}
    values: dict[str, list[float]] = {judge.target.row_metric: [], metric: []}
    everyone = np.ones((1, len(rows.members)), dtype=np.bool_)
    for weights in np.concatenate([everyone, masks, ~masks]).astype(np.uint8):
        # One half at a time: in one call, a gap would have the sign of the gap in all patients.
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
    """Return masks ``(H, P)`` of the patients of random halves, stratified by label and group."""
    first = np.unique(rows.patients, return_index=True)[1]
    labels = np.zeros(len(first), dtype=np.intp)
    np.maximum.at(labels, rows.patients, rows.labels)
    strata = labels * (groups.max() + 2) + groups[first]
    masks = np.zeros((HALVES, len(first)), dtype=np.bool_)
    for mask in masks:
        order = rng.permutation(len(first))
        ranked = order[np.argsort(strata[order], kind="stable")]  # by stratum, random inside
        mask[ranked[rng.integers(2) :: 2]] = True
    return masks


def _plan(judge: Judge) -> Plan:
    return Plan(
        metrics=tuple(metric.name for metric in judge.target.metrics),
        across=target_aggregates(judge.target),
        excluded=judge.excluded,
        bootstrap=BOOTSTRAP,
    )


def _span(judge: Judge, rows: pd.DataFrame) -> Span:
    """Return the target's value and interval."""
    attribute = EVERYBODY if judge.target.is_overall else judge.attribute
    is_target = (
        (rows["attribute"] == attribute)
        & (rows["group"] == EVERYBODY)
        & (rows["metric"] == judge.target.row_metric)
    )
    row = rows[is_target].iloc[0]
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    return (value, None, None) if math.isnan(low) or math.isnan(high) else (value, low, high)


def _multiply(span: Span, sign: float) -> Span:
    value, low, high = span
    if low is None or high is None:
        return sign * value, None, None
    first, last = sorted((sign * low, sign * high))
    return sign * value, first, last


def _shift(span: Span, shift: float) -> Span:
    value, low, high = span
    return (
        value + shift,
        None if low is None else low + shift,
        None if high is None else high + shift,
    )


def _patients(predictions: Predictions) -> int:
    return int(predictions.table["patient_id"].nunique())
