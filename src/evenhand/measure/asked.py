"""Every number that is asked of the groups of one attribute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from evenhand.errors import pick
from evenhand.measure.across import CONTRASTS, DETECTABLE, SUMMARIES, extreme
from evenhand.measure.fairness import FAIRNESS, Fairness
from evenhand.measure.numbers import BIASED, EVERYBODY, Number, Parts, with_note
from evenhand.measure.power import detectable_gap
from evenhand.measure.registry import Floats, find_metric
from evenhand.measure.resample import Resamples
from evenhand.measure.values import Values, values_of, versus_rest


def check_across(names: Sequence[str]) -> None:
    """Refuse a name that is no summary, contrast or fairness metric."""
    known = {**SUMMARIES, **CONTRASTS, **FAIRNESS, DETECTABLE: detectable_gap}
    for name in names:
        pick("comparison across groups", name, known)


def numbers_of(
    parts: Parts, metrics: Sequence[str], across: Sequence[str], resamples: Resamples
) -> list[Number]:
    """Return each metric in each group, then what is asked across the groups, in that order."""
    named = [FAIRNESS[name] for name in across if name in FAIRNESS]
    hidden = [name for one in named if one.over != "classes" for name in one.of]
    values = values_of(parts, tuple(dict.fromkeys([*metrics, *hidden])), resamples)
    found = [number for metric in metrics for number in _in_groups(values, metric)]
    found.sort(key=lambda number: list(parts.rows).index(number.group))
    for name in across:
        if name in SUMMARIES:
            found += [_summary(values, metric, name) for metric in metrics]
        elif name in CONTRASTS:
            found += [one for metric in metrics for one in _contrasts(values, metric, name)]
        elif name == DETECTABLE:
            found += [one for metric in metrics for one in _detectable(values, metric, resamples)]
        else:
            found += _named(values, FAIRNESS[name], resamples)
    return found


def _in_groups(values: Values, metric: str) -> Iterator[Number]:
    for level in values.parts.rows:
        number = values.number(level, metric, metric, values.of(metric, [level])[0])
        share = values.metrics[metric].share
        yield replace(number, reason=values.why(metric, level), share=share)


def _summary(values: Values, metric: str, name: str) -> Number:
    compared = values.parts.compared
    family = values.of(metric, compared)
    reason = values.reason(metric, compared)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _nothing(values) if reason else SUMMARIES[name](family, values.metrics[metric])
    number = values.number(EVERYBODY, f"{metric}_{name}", metric, _finite(found))
    picked = "spread" if name == "gap" else extreme(name, values.metrics[metric])
    if picked is None:
        return replace(with_note(number, BIASED), reason=reason)
    share = values.metrics[metric].share
    return replace(number, reason=reason, family=(family,), pick=picked, share=share)


def _contrasts(values: Values, metric: str, name: str) -> Iterator[Number]:
    reference = values.parts.reference
    for level in values.parts.compared:
        if level == reference or reference is None:
            continue
        both = values.of(metric, [level, reference])
        with np.errstate(divide="ignore", invalid="ignore"):
            found = _finite(CONTRASTS[name](*both))
        number = values.number(level, f"{metric}_{name}", metric, found)
        reason = values.reason(metric, [level, reference])
        yield replace(with_note(number, f"from {reference}"), reason=reason)


def _detectable(values: Values, metric: str, resamples: Resamples) -> Iterator[Number]:
    """Yield the difference found with 80 % power, from the bootstrap's error of the difference."""
    draws = slice(1, 1 + resamples.replicates)
    for number in _contrasts(values, metric, "difference"):
        defined = number.values[draws][~np.isnan(number.values[draws])]
        found = _nothing(values)
        if len(defined) > 1:
            found[0] = detectable_gap(float(defined.std(ddof=1)))
        name, note = f"{metric}_{DETECTABLE}", "80 % power, two-sided 5 %, bootstrap error"
        yield replace(with_note(number, note), metric=name, values=found, pick="point")


def _named(values: Values, of: Fairness, resamples: Resamples) -> Iterator[Number]:
    if of.over == "reference":
        yield from _against_reference(values, of)
        return
    levels = values.parts.compared
    if of.over == "classes":
        every = [
            values_of(versus_rest(values.parts, which), of.of, resamples)
            for which in range(len(values.parts.together.classes))
        ]
        families = tuple(np.stack([v.of(m, levels) for v in every], axis=1) for m in of.of)
        reason = _first(v.reason(m, levels) for v in every for m in of.of)
    else:
        families = tuple(values.of(metric, levels) for metric in of.of)
        reason = _first(values.reason(metric, levels) for metric in of.of)
    if of.over == "overall" and not reason:
        whole = replace(values.parts, rows={EVERYBODY: values.parts.together}, compared=())
        overall = values_of(whole, of.of, resamples, values.classes)
        families = tuple(
            np.concatenate([family, overall.of(metric, [EVERYBODY])])
            for family, metric in zip(families, of.of, strict=True)
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _nothing(values) if reason else _finite(of.value(*families))
    number = _number(values, of, EVERYBODY, found, reason)
    if of.is_spread:
        share = all(find_metric(metric).share for metric in of.of)
        number = replace(number, family=families, pick="spread", share=share)
    yield number


def _against_reference(values: Values, of: Fairness) -> Iterator[Number]:
    reference = values.parts.reference
    for level in values.parts.compared:
        if level == reference or reference is None:
            continue
        both = [level, reference]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = _finite(of.value(*(values.of(metric, both) for metric in of.of)))
        reason = _first(values.reason(metric, both) for metric in of.of)
        yield with_note(_number(values, of, level, found, reason), f"from {reference}")


def _number(values: Values, of: Fairness, group: str, found: Floats, reason: str | None) -> Number:
    parts = values.parts
    rows = parts.together if group == EVERYBODY else parts.rows[group]
    decided = any(find_metric(metric).needs == "decision" for metric in of.of)
    note = "" if of.is_spread or of.over == "reference" else BIASED
    threshold = rows.threshold if decided else None
    return Number(parts.attribute, group, of.name, found, rows, threshold, reason, note)


def _first(reasons: Iterator[str | None]) -> str | None:
    return next(filter(None, reasons), None)


def _nothing(values: Values) -> Floats:
    return np.full(values.table.shape[-1], np.nan)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
