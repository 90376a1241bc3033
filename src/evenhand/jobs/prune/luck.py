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
from evenhand.metrics.aggregate import numbers_of
from evenhand.metrics.estimates import everybody, parts_of
from evenhand.metrics.intervals import ENOUGH
from evenhand.metrics.resample import as_resamples, resample
from evenhand.reporting.sections.luck import Luck, Span
from evenhand.tables.predictions import Predictions

Floats = NDArray[np.float64]

SEED = 0
BOOTSTRAP = Bootstrap()
RESAMPLES = 100
"""Resamples in which the choice is repeated."""


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
        luck = _by_resamples(judge, steps, winner)
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


def _by_resamples(judge: Judge, steps: Sequence[Predictions], winner: int) -> Luck:
    """Return the luck by the patients that resamples leave out.

    Each resample of the patients chooses a step. On the patients whom it leaves out (about 37 %;
    Efron & Tibshirani, JASA 1997) this step is compared with the winner, which they helped to
    choose: how much better the winner looks there, on average, is the luck. The confirmed value is
    the value less the luck; its interval is shifted by as much.
    """
    values = [_replicates(judge, step) for step in steps]
    judged = {name: np.array([own[name] for own in values]) for name in values[0]}
    target = judged[judge.target.row]  # (S, 1 + 2 B)
    draws = RESAMPLES
    gains = target - target[0]
    better = []
    for draw in range(1, 1 + draws):
        drawn = [
            {name: number[k, draw] for name, number in judged.items()} for k in range(len(steps))
        ]
        if judge.undefined(drawn[0]) is None:
            left_out = gains[:, draw + draws]
            better.append(left_out[judge.best(drawn)] - left_out[winner])
    defined = np.array([by for by in better if math.isfinite(by)])
    by = float(defined.mean()) if len(defined) > ENOUGH * draws else math.nan
    pair = steps[winner], steps[0]
    chosen, change = _spans(judge, pair, (judge.cut(pair[0]), judge.cut(pair[1])))
    return Luck(
        metric=judge.target.row,
        lower_is_better=not judge.target.maximise,
        how="resamples",
        step=winner,
        choosing=_patients(steps[winner]),
        confirming=0,
        chosen=chosen,
        confirmed=_shifted(chosen, by),
        gain=change,
        confirmed_gain=_shifted(change, by),
        luck=(by if not judge.target.maximise else -by, None, None),
    )


def _replicates(judge: Judge, predictions: Predictions) -> dict[str, Floats]:
    """Return the numbers that steps are judged by, ``(1 + 2 B,)`` each.

    The first is from the data, then come B resamples, then the patients that each of these leaves
    out. The same patients are drawn for every step.
    """
    rows = scored_rows(predictions, judge.cut(predictions))
    (groups,) = groups_in(predictions, [judge.attribute]).values()
    plan, metric = _plan(judge), judge.settings.budget_metric
    rng = np.random.default_rng(SEED)
    drawn = resample(len(rows.members), Bootstrap(RESAMPLES), rng).weights
    parts = parts_of(rows, judge.attribute, groups, compared_levels(plan, judge.attribute, groups))
    overall = {judge.target.row: None} if judge.target.is_overall else {}
    values: dict[str, list[float]] = {judge.target.row: [], metric: []}
    for weights in np.concatenate([drawn, drawn[1:] == 0]).astype(drawn.dtype):
        # One resample at a time: computed together, its gap would take the sign of the data's.
        draws = as_resamples(weights[None])
        numbers = [
            *numbers_of(everybody(rows), tuple({metric: None, **overall}), (), draws),
            *numbers_of(parts, plan.metrics, plan.across, draws),
        ]
        for number in numbers:
            if number.group == "*" and number.metric in values:
                values[number.metric].append(float(number.values[0]))
    return {name: np.array(replicates) for name, replicates in values.items()}


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
