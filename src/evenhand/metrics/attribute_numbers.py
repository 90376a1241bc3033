"""The numbers of one attribute: each metric in each group, and comparisons across its groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from evenhand.errors import pick
from evenhand.metrics.aggregates import CONTRASTS, DETECTABLE, SUMMARIES, extreme, why_no_extreme
from evenhand.metrics.attribute_values import GroupValues, request_values, versus_rest
from evenhand.metrics.fairness import FAIRNESS, Fairness
from evenhand.metrics.families import MetricFamily, join_families
from evenhand.metrics.intervals import unchanging_reason
from evenhand.metrics.numbers import (
    ANYWHERE,
    BIASED,
    UNIT,
    Parts,
    ResampledNumber,
    all_compared,
    with_note,
)
from evenhand.metrics.power import BOOTSTRAP_ERROR, detectable_gap
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import EVERYBODY, join_notes
from evenhand.metrics.stream import Stream


def check_across(names: Sequence[str]) -> None:
    """Check that each name is a summary, a contrast or a fairness metric.

    Raises
    ------
    EvenhandError
        If a name is none of these.
    """
    comparisons = {**SUMMARIES, **CONTRASTS, **FAIRNESS, DETECTABLE: detectable_gap}
    for name in names:
        pick("comparison across groups", name, comparisons)


@dataclass(frozen=True, eq=False)
class EstimateRequest:
    """The numbers to compute for one attribute, and the values that they are computed from.

    Attributes
    ----------
    values
        The values of the metrics in each group.
    metrics, across
        Names of the metrics to compute in each group, and of the comparisons across groups.
    by_class
        For each fairness metric over classes, by name: the values of each class against the rest.
    overall
        For each fairness metric that compares groups with all samples, by name: the values on the
        samples of all compared groups together.
    """

    values: GroupValues
    metrics: Sequence[str]
    across: Sequence[str]
    by_class: Mapping[str, Sequence[GroupValues]]
    overall: Mapping[str, GroupValues]

    def numbers(self) -> list[ResampledNumber]:
        """Return each metric in each group, then the comparisons across groups, in that order.

        Call it after the stream that computes the values has run.
        """
        values = self.values
        numbers = [
            number
            for metric in self.metrics
            for number in _with_reason(values, metric, _in_groups(values, metric))
        ]
        order = {level: position for position, level in enumerate(values.parts.rows)}
        numbers.sort(key=lambda number: order[number.group])
        for name in self.across:
            if name in FAIRNESS:
                numbers += _fairness_numbers(self, FAIRNESS[name])
            else:
                for metric in self.metrics:
                    numbers += _across(values, metric, name)
        return numbers


def request_numbers(
    parts: Parts, metrics: Sequence[str], across: Sequence[str], stream: Stream
) -> EstimateRequest:
    """Request the values of one attribute from a stream.

    Parameters
    ----------
    parts
        The samples of each group.
    metrics, across
        As for `EstimateRequest`.
    stream
        Computes the values when it runs.
    """
    fairness_metrics = [FAIRNESS[name] for name in across if name in FAIRNESS]
    underlying = [
        name
        for fairness in fairness_metrics
        if fairness.over != "classes"
        for name in fairness.metrics
    ]
    values = request_values(parts, tuple(dict.fromkeys([*metrics, *underlying])), stream)
    classes = range(len(parts.together.classes))
    versus_rest_of = {
        class_index: versus_rest(parts, class_index)
        for class_index in classes
        if any(fairness.over == "classes" for fairness in fairness_metrics)
    }
    by_class = {
        fairness.name: [
            request_values(versus_rest_of[class_index], fairness.metrics, stream)
            for class_index in classes
        ]
        for fairness in fairness_metrics
        if fairness.over == "classes"
    }
    overall = {
        fairness.name: request_values(all_compared(parts), fairness.metrics, stream, values.classes)
        for fairness in fairness_metrics
        if fairness.over == "overall" and parts.compared
    }
    return EstimateRequest(values, metrics, across, by_class, overall)


def compute_numbers(
    parts: Parts, metrics: Sequence[str], across: Sequence[str], resamples: Resamples
) -> list[ResampledNumber]:
    """Return the numbers of one attribute, in a separate pass over the resamples."""
    stream = Stream(resamples)
    request = request_numbers(parts, metrics, across, stream)
    stream.run()
    return request.numbers()


def _across(values: GroupValues, metric: str, name: str) -> Iterator[ResampledNumber]:
    """Yield a comparison of a metric across the groups."""
    if name in SUMMARIES:
        return _with_reason(values, metric, iter([_summary(values, metric, name)]))
    if name in CONTRASTS:
        return _with_reason(values, metric, _contrasts(values, metric, name))
    return _detectable(values, metric)


def _with_reason(
    values: GroupValues, metric: str, numbers: Iterator[ResampledNumber]
) -> Iterator[ResampledNumber]:
    """Yield numbers without an interval, and with the reason, if the metric has no interval."""
    reason = values.metrics[metric].no_interval
    for number in numbers:
        yield number if reason is None else replace(number, composition="point", no_interval=reason)


def _in_groups(values: GroupValues, metric: str) -> Iterator[ResampledNumber]:
    """Yield a metric in each group."""
    bounds = UNIT if values.metrics[metric].share else ANYWHERE
    for level in values.parts.rows:
        family, reason = values.family_of(metric, [level]), values.why_undefined_in(level, metric)
        fields = {"reason": reason, "bounds": bounds, "family": (family,), "composition": "one"}
        yield values.number(level, metric, None, family.values[0], **fields)


def _summary(values: GroupValues, metric: str, name: str) -> ResampledNumber:
    """Return a summary of a metric over the compared groups, such as its worst value."""
    compared = values.parts.compared
    family = values.family_of(metric, compared)
    reason = why_no_extreme(name, values.metrics[metric]) or values.reason(metric, compared)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = (
            _all_undefined(values)
            if reason
            else SUMMARIES[name](family.values, values.metrics[metric])
        )
    number = values.number(EVERYBODY, metric, name, _finite(estimate))
    number = replace(number, reason=reason, family=(family,))
    composition = "spread" if name == "gap" else extreme(name, values.metrics[metric])
    if composition is None:
        positive = name == "min_ratio" and family.values[:, 0].min(initial=0.0) >= 0
        bounds = (-math.inf, 1.0) if positive else ANYWHERE
        return with_note(replace(number, bounds=bounds), BIASED)
    bounds = UNIT if values.metrics[metric].share else ANYWHERE
    return replace(number, composition=composition, bounds=bounds)


def _contrasts(values: GroupValues, metric: str, name: str) -> Iterator[ResampledNumber]:
    """Yield each group's contrast with the reference; it is computed once and stored."""
    key = metric, name
    if key not in values.contrasts:
        values.contrasts[key] = tuple(_new_contrasts(values, metric, name))
    yield from values.contrasts[key]


def _new_contrasts(values: GroupValues, metric: str, name: str) -> Iterator[ResampledNumber]:
    """Yield each group's contrast with the reference."""
    reference = values.parts.reference
    for level in values.parts.compared:
        if level == reference or reference is None:
            continue
        pair = values.family_of(metric, [level, reference])
        with np.errstate(divide="ignore", invalid="ignore"):
            contrast = _finite(CONTRASTS[name](*pair.values))
        fields = {
            "reason": values.reason(metric, [level, reference]),
            "reference": reference,
            "family": (pair,),
            "composition": "difference" if name == "difference" else "other",
            "bounds": (0.0, math.inf) if name.endswith("_deviation") else ANYWHERE,
        }
        yield values.number(level, metric, name, contrast, **fields)


def _detectable(values: GroupValues, metric: str) -> Iterator[ResampledNumber]:
    """Yield the difference detectable with 80 % power, from its bootstrap standard error."""
    draws = slice(1, 1 + values.resamples.replicates)
    for number in _contrasts(values, metric, "difference"):
        defined = number.values[draws][~np.isnan(number.values[draws])]
        estimate = _all_undefined(values)
        if len(defined) > 1:
            estimate[0] = detectable_gap(float(defined.std(ddof=1)))
        reason = number.reason or _no_error(number.family[0])
        note = join_notes(f"80 % power, two-sided 5 %, {BOOTSTRAP_ERROR}", number.note) or ""
        yield replace(
            number,
            aggregate=DETECTABLE,
            values=estimate,
            reason=reason,
            composition="point",
            note=note,
        )


def _no_error(family: MetricFamily) -> str | None:
    """Return why a difference has no bootstrap standard error, or None."""
    fixed = [name for name, is_fixed in zip(family.names, family.fixed, strict=True) if is_fixed]
    return f"its standard error is unknown: {unchanging_reason(fixed)}" if fixed else None


def _fairness_numbers(request: EstimateRequest, fairness: Fairness) -> Iterator[ResampledNumber]:
    """Yield a fairness metric: one number, or one for each group that has a reference."""
    values = request.values
    if fairness.over == "reference":
        yield from _against_reference(values, fairness)
        return
    levels = values.parts.compared
    values_by_class = request.by_class.get(fairness.name, [values])
    reason = _first_reason(
        of_class.reason(metric, levels)
        for of_class in values_by_class
        for metric in fairness.metrics
    )
    families = [
        [of_class.family_of(metric, levels) for of_class in values_by_class]
        for metric in fairness.metrics
    ]
    if fairness.over == "overall" and not reason:
        together = [
            request.overall[fairness.name].family_of(metric, [EVERYBODY])
            for metric in fairness.metrics
        ]
        families = [
            [join_families(groups, everybody)]
            for (groups,), everybody in zip(families, together, strict=True)
        ]
    arrays = [
        np.stack([family.values for family in of_metric], axis=1)  # (G, C, K)
        for of_metric in families
    ]
    if fairness.over != "classes":
        arrays = [array[:, 0] for array in arrays]
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = _all_undefined(values) if reason else _finite(fairness.value(*arrays))
    number = _fairness_number(values, fairness, EVERYBODY, estimate, reason)
    number = replace(number, family=tuple(chain.from_iterable(families)))
    if fairness.is_spread:
        bounds = UNIT if all(find_metric(metric).share for metric in fairness.metrics) else ANYWHERE
        number = replace(number, composition="spread", bounds=bounds)
    yield number


def _against_reference(values: GroupValues, fairness: Fairness) -> Iterator[ResampledNumber]:
    """Yield a fairness metric of each group against the reference."""
    reference = values.parts.reference
    for level in values.parts.compared:
        if level == reference or reference is None:
            continue
        pair = [level, reference]
        families = tuple(values.family_of(metric, pair) for metric in fairness.metrics)
        with np.errstate(divide="ignore", invalid="ignore"):
            estimate = _finite(fairness.value(*(family.values for family in families)))
        reason = _first_reason(values.reason(metric, pair) for metric in fairness.metrics)
        number = replace(
            _fairness_number(values, fairness, level, estimate, reason), family=families
        )
        yield replace(number, reference=reference)


def _fairness_number(
    values: GroupValues, fairness: Fairness, group: str, estimate: Floats, reason: str | None
) -> ResampledNumber:
    parts = values.parts
    rows = parts.together if group == EVERYBODY else parts.rows[group]
    decided = any(find_metric(metric).needs == "decision" for metric in fairness.metrics)
    note = "" if fairness.is_spread or fairness.over == "reference" else BIASED
    threshold = rows.threshold if decided else None
    number = ResampledNumber(
        parts.attribute, group, fairness, estimate, rows, None, threshold, reason
    )
    return replace(number, note=note, bounds=_up_to_parity(fairness))


def _up_to_parity(fairness: Fairness) -> tuple[float, float]:
    """Return the bounds of a fairness metric: no value is better than parity."""
    if fairness.direction == "lower":
        return fairness.ideal, math.inf
    return (-math.inf, fairness.ideal) if fairness.direction == "higher" else ANYWHERE


def _first_reason(reasons: Iterator[str | None]) -> str | None:
    return next(filter(None, reasons), None)


def _all_undefined(values: GroupValues) -> Floats:
    return np.full(values.resamples.count, np.nan)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
