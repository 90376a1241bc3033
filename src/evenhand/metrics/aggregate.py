"""Every number that is asked of the groups of one attribute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evenhand.errors import pick
from evenhand.metrics.aggregates import CONTRASTS, DETECTABLE, SUMMARIES, extreme, why_no_extreme
from evenhand.metrics.estimates import (
    ANYWHERE,
    BIASED,
    UNIT,
    Made,
    Number,
    Parts,
    all_compared,
    with_note,
)
from evenhand.metrics.fairness import FAIRNESS, Fairness
from evenhand.metrics.families import Family, beside
from evenhand.metrics.intervals import unchanging
from evenhand.metrics.power import BOOTSTRAP_ERROR, detectable_gap
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import EVERYBODY, joined
from evenhand.metrics.stream import Stream
from evenhand.metrics.values import Values, values_of, versus_rest


def check_across(names: Sequence[str]) -> None:
    """Refuse a name that is no summary, contrast or fairness metric."""
    known = {**SUMMARIES, **CONTRASTS, **FAIRNESS, DETECTABLE: detectable_gap}
    for name in names:
        pick("comparison across groups", name, known)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is asked of the groups of one attribute, with the values that it is made from.

    Attributes
    ----------
    values
        Of the metrics in each group.
    metrics, across
        What is asked: of each group, and across them.
    by_class
        By the name of a fairness metric over the classes, the values of each class.
    overall
        By the name of a fairness metric that needs them, the values of the compared groups'
        samples together.
    """

    values: Values
    metrics: Sequence[str]
    across: Sequence[str]
    by_class: Mapping[str, Sequence[Values]]
    overall: Mapping[str, Values]

    def numbers(self) -> list[Number]:
        """Return each metric in each group, then what is asked across the groups, in that order.

        The stream that computes the values has run.
        """
        values = self.values
        found = [
            one
            for metric in self.metrics
            for one in _bare(values, metric, _in_groups(values, metric))
        ]
        order = {level: position for position, level in enumerate(values.parts.rows)}
        found.sort(key=lambda number: order[number.group])
        for name in self.across:
            if name in FAIRNESS:
                found += _named(self, FAIRNESS[name])
            else:
                found += [one for metric in self.metrics for one in _across(values, metric, name)]
        return found


def wanted(parts: Parts, metrics: Sequence[str], across: Sequence[str], stream: Stream) -> Wanted:
    """Ask a stream for all values that some numbers are made from."""
    named = [FAIRNESS[name] for name in across if name in FAIRNESS]
    hidden = [name for one in named if one.over != "classes" for name in one.of]
    values = values_of(parts, tuple(dict.fromkeys([*metrics, *hidden])), stream)
    classes = range(len(parts.together.classes))
    of_class = {
        which: versus_rest(parts, which)
        for which in classes
        if any(one.over == "classes" for one in named)
    }
    by_class = {
        one.name: [values_of(of_class[which], one.of, stream) for which in classes]
        for one in named
        if one.over == "classes"
    }
    overall = {
        one.name: values_of(all_compared(parts), one.of, stream, values.classes)
        for one in named
        if one.over == "overall" and parts.compared
    }
    return Wanted(values, metrics, across, by_class, overall)


def numbers_of(
    parts: Parts, metrics: Sequence[str], across: Sequence[str], resamples: Resamples
) -> list[Number]:
    """Return what `Wanted.numbers` does, by a pass over the resamples for itself."""
    stream = Stream(resamples)
    asked = wanted(parts, metrics, across, stream)
    stream.run()
    return asked.numbers()


def _across(values: Values, metric: str, name: str) -> Iterator[Number]:
    """Yield a comparison of a metric across the groups."""
    if name in SUMMARIES:
        return _bare(values, metric, iter([_summary(values, metric, name)]))
    if name in CONTRASTS:
        return _bare(values, metric, _contrasts(values, metric, name))
    return _detectable(values, metric)


def _bare(values: Values, metric: str, numbers: Iterator[Number]) -> Iterator[Number]:
    """Yield numbers; where the metric has no interval they lose theirs and get the reason."""
    reason = values.metrics[metric].no_interval
    for number in numbers:
        yield number if reason is None else replace(number, made="point", no_interval=reason)


def _in_groups(values: Values, metric: str) -> Iterator[Number]:
    bounds = UNIT if values.metrics[metric].share else ANYWHERE
    for level in values.parts.rows:
        of, reason = values.of(metric, [level]), values.why(metric, level)
        number = values.number(level, metric, None, of.values[0])
        yield replace(number, reason=reason, bounds=bounds, family=(of,), made="one")


def _summary(values: Values, metric: str, name: str) -> Number:
    compared = values.parts.compared
    of = values.of(metric, compared)
    reason = why_no_extreme(name, values.metrics[metric]) or values.reason(metric, compared)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _nothing(values) if reason else SUMMARIES[name](of.values, values.metrics[metric])
    number = values.number(EVERYBODY, metric, name, _finite(found))
    number = replace(number, reason=reason, family=(of,))
    picked = "spread" if name == "gap" else extreme(name, values.metrics[metric])
    if picked is None:
        positive = name == "min_ratio" and of.values[:, 0].min(initial=0.0) >= 0
        bounds = (-math.inf, 1.0) if positive else ANYWHERE
        return with_note(replace(number, bounds=bounds), BIASED)
    bounds = UNIT if values.metrics[metric].share else ANYWHERE
    return replace(number, made=picked, bounds=bounds)


def _contrasts(values: Values, metric: str, name: str) -> Iterator[Number]:
    """Yield each group's contrast with the reference, computed once for all who ask."""
    key = metric, name
    if key not in values.contrasts:
        values.contrasts[key] = tuple(_new_contrasts(values, metric, name))
    yield from values.contrasts[key]


def _new_contrasts(values: Values, metric: str, name: str) -> Iterator[Number]:
    reference = values.parts.reference
    for level in values.parts.compared:
        if level == reference or reference is None:
            continue
        both = values.of(metric, [level, reference])
        with np.errstate(divide="ignore", invalid="ignore"):
            found = _finite(CONTRASTS[name](*both.values))
        number = values.number(level, metric, name, found)
        reason = values.reason(metric, [level, reference])
        made: Made = "difference" if name == "difference" else "other"
        bounds = (0.0, math.inf) if name.endswith("_deviation") else ANYWHERE
        number = replace(number, reason=reason, family=(both,), made=made, bounds=bounds)
        yield replace(number, reference=reference)


def _detectable(values: Values, metric: str) -> Iterator[Number]:
    """Yield the difference found with 80 % power, from the bootstrap's error of the difference."""
    draws = slice(1, 1 + values.resamples.replicates)
    for number in _contrasts(values, metric, "difference"):
        defined = number.values[draws][~np.isnan(number.values[draws])]
        found = _nothing(values)
        if len(defined) > 1:
            found[0] = detectable_gap(float(defined.std(ddof=1)))
        reason = number.reason or _no_error(number.family[0])
        note = joined(f"80 % power, two-sided 5 %, {BOOTSTRAP_ERROR}", number.note) or ""
        number = replace(number, aggregate=DETECTABLE, values=found, reason=reason)
        yield replace(number, made="point", note=note)


def _no_error(of: Family) -> str | None:
    """Return why the bootstrap has no error of a difference, or None."""
    fixed = [name for name, at in zip(of.names, of.fixed, strict=True) if at]
    return f"no error is known: {unchanging(fixed)}" if fixed else None


def _named(wanted: Wanted, of: Fairness) -> Iterator[Number]:
    values = wanted.values
    if of.over == "reference":
        yield from _against_reference(values, of)
        return
    levels = values.parts.compared
    every = wanted.by_class.get(of.name, [values])
    reason = _first(v.reason(metric, levels) for v in every for metric in of.of)
    made_of = [[v.of(metric, levels) for v in every] for metric in of.of]
    if of.over == "overall" and not reason:
        together = [wanted.overall[of.name].of(metric, [EVERYBODY]) for metric in of.of]
        made_of = [[beside(one, other)] for (one,), other in zip(made_of, together, strict=True)]
    arrays = [np.stack([one.values for one in ones], axis=1) for ones in made_of]  # (G, C, K)
    if of.over != "classes":
        arrays = [array[:, 0] for array in arrays]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _nothing(values) if reason else _finite(of.value(*arrays))
    number = _number(values, of, EVERYBODY, found, reason)
    number = replace(number, family=tuple(one for ones in made_of for one in ones))
    if of.is_spread:
        bounds = UNIT if all(find_metric(metric).share for metric in of.of) else ANYWHERE
        number = replace(number, made="spread", bounds=bounds)
    yield number


def _against_reference(values: Values, of: Fairness) -> Iterator[Number]:
    reference = values.parts.reference
    for level in values.parts.compared:
        if level == reference or reference is None:
            continue
        both = [level, reference]
        families = tuple(values.of(metric, both) for metric in of.of)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = _finite(of.value(*(one.values for one in families)))
        reason = _first(values.reason(metric, both) for metric in of.of)
        number = replace(_number(values, of, level, found, reason), family=families)
        yield replace(number, reference=reference)


def _number(values: Values, of: Fairness, group: str, found: Floats, reason: str | None) -> Number:
    parts = values.parts
    rows = parts.together if group == EVERYBODY else parts.rows[group]
    decided = any(find_metric(metric).needs == "decision" for metric in of.of)
    note = "" if of.is_spread or of.over == "reference" else BIASED
    threshold = rows.threshold if decided else None
    number = Number(parts.attribute, group, of, found, rows, None, threshold, reason)
    return replace(number, note=note, bounds=_up_to_parity(of))


def _up_to_parity(of: Fairness) -> tuple[float, float]:
    """Return the bounds of a fairness metric: nothing is better than parity."""
    if of.direction == "lower":
        return of.ideal, math.inf
    return (-math.inf, of.ideal) if of.direction == "higher" else ANYWHERE


def _first(reasons: Iterator[str | None]) -> str | None:
    return next(filter(None, reasons), None)


def _nothing(values: Values) -> Floats:
    return np.full(values.resamples.count, np.nan)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
