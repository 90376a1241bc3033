"""Values of metrics on groups, for the data and for every resample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.forms import looped
from evenhand.metrics.forms.additive import Additive
from evenhand.metrics.registry import Floats, Metric, Requirement, Weights
from evenhand.metrics.resample import Resamples
from evenhand.metrics.scored import Scored
from evenhand.wording import counted

CELLS = 2**23
"""Rows × resamples worked on at a time; bounds the memory to a few hundred MiB."""


SLOW = 10
"""Resamples at a time where they are gone through one by one, so that a bar moves on."""


def estimate(
    groups: Sequence[Scored],
    metrics: Sequence[Metric],
    resamples: Resamples,
    classes: Sequence[int],
) -> Floats:
    """Return values ``(groups, metrics, 1 + B + J)``, NaN where a metric is undefined.

    Parameters
    ----------
    groups
        The rows of each group; a group may be empty.
    classes
        The classes that one-vs-rest means are taken over (see `common_classes`).
    """
    values = np.full((len(groups), len(metrics), resamples.count), np.nan)
    if not metrics:
        return values
    largest = max((len(rows) for rows in groups), default=0)
    size = max(1, CELLS // max(largest, 1))
    if any(metric.form is looped for metric in metrics):
        size = min(size, SLOW)
    evaluate = [_evaluator(rows, metrics, classes) if len(rows) else None for rows in groups]
    for at, weights in resamples.blocks(size):
        for group, (rows, values_of) in enumerate(zip(groups, evaluate, strict=True)):
            if values_of is not None:
                whole = len(rows.members) == weights.shape[1]  # they are in order
                own = weights if whole else weights.take(rows.members, axis=1)
                values[group, :, at] = values_of(own)
    return values


def point(rows: Scored, metric: Metric, classes: Sequence[int]) -> float:
    """Return the value of one metric on some rows, NaN where it is undefined."""
    if not len(rows):
        return math.nan
    everybody = np.ones((1, len(rows.members)), dtype=np.uint8)
    return float(_evaluator(rows, [metric], classes)(everybody)[0, 0])


def common_classes(groups: Sequence[Scored]) -> tuple[int, ...]:
    """Return the classes that every group has, and has others beside: the macro goes over them."""
    n_classes = len(groups[0].classes) if groups else 0

    def has(rows: Scored, which: int) -> bool:
        of_class = int(np.count_nonzero(rows.labels == which))
        return 0 < of_class < len(rows)

    return tuple(c for c in range(n_classes) if all(has(rows, c) for rows in groups))


def why_undefined(rows: Scored, metric: Metric, classes: Sequence[int]) -> str | None:
    """Return the reason, with counts, why a metric is undefined on some rows, or None."""
    if not len(rows):
        return "no samples"
    if rows.binary:
        return _lacking(rows, metric.requires)
    if metric.classes == "two":
        return f"defined for two classes only; there are {len(rows.classes)}"
    if metric.classes == "any":
        return None
    if not classes:
        return "no class is present, with others beside it, in every group"
    for which in classes:
        lacks = _lacking(rows.versus_rest(which), metric.requires)
        if lacks:
            return f"class {rows.classes[which]!r}: {lacks}"
    return None


def patients_behind(rows: Scored, metric: Metric, classes: Sequence[int]) -> int:
    """Return the number of patients who have the rows that a metric requires.

    The least of them where it requires several kinds or is a mean over classes; all patients where
    it requires none.
    """
    if not rows.binary and metric.classes == "macro":
        of_class = (patients_behind(rows.versus_rest(which), metric, (1,)) for which in classes)
        return min(of_class, default=0)
    if not metric.requires:
        return len(rows.members)
    return min(_patients(rows, kind) for kind in metric.requires)


def _patients(rows: Scored, kind: Requirement) -> int:
    """Return the number of patients who have rows of a kind."""
    of_kind = np.bincount(rows.patients[_which(rows, kind)], minlength=len(rows.members))
    return int(np.count_nonzero(of_kind))


def _which(rows: Scored, kind: Requirement) -> NDArray[np.bool_]:
    """Return the mask ``(n,)`` of the rows of a kind."""
    of = rows.labels if kind in ("positives", "negatives") else rows.decisions
    wanted: NDArray[np.bool_] = of == (kind in ("positives", "flagged"))
    return wanted


def _lacking(rows: Scored, requires: Sequence[Requirement]) -> str | None:
    missing = [kind for kind in requires if not _which(rows, kind).any()]
    return (
        f"no {' and no '.join(missing)} among {counted(len(rows), 'sample')}" if missing else None
    )


def _evaluator(
    rows: Scored, metrics: Sequence[Metric], classes: Sequence[int]
) -> Callable[[Weights], Floats]:
    """Prepare rows, and return the function from weights ``(b, P)`` to values ``(metrics, b)``."""
    if rows.binary:
        return _one_problem(rows, metrics)
    whole = [place for place, metric in enumerate(metrics) if metric.classes == "any"]
    macro = [place for place, metric in enumerate(metrics) if metric.classes == "macro"]
    on_whole = _one_problem(rows, [metrics[place] for place in whole])
    on_class = [
        _one_problem(rows.versus_rest(which), [metrics[place].of_one_class() for place in macro])
        for which in (classes if macro else ())
    ]

    def values(weights: Weights) -> Floats:
        out = np.full((len(metrics), len(weights)), np.nan)
        if whole:
            out[whole] = on_whole(weights)
        if on_class:
            out[macro] = np.mean([of_class(weights) for of_class in on_class], axis=0)
        return out

    return values


def _summed(
    rows: Scored, forms: Sequence[Additive]
) -> Callable[[Weights], dict[Callable[[Scored], Any], Any]]:
    """Return the summaries of additive forms by one matrix product for all of them."""
    if not forms:
        return lambda _: {}
    of_each = [form.by_patient(rows) for form in forms]
    ends = np.cumsum([0, *(sums.shape[1] for sums in of_each)])
    sums = np.concatenate(of_each, axis=1)

    def summaries(weights: Weights) -> dict[Callable[[Scored], Any], Any]:
        totals = weights.astype(np.float64) @ sums
        return {
            form: form.summary(totals[:, start:end])
            for form, start, end in zip(forms, ends[:-1], ends[1:], strict=True)
        }

    return summaries


def _one_problem(rows: Scored, metrics: Sequence[Metric]) -> Callable[[Weights], Floats]:
    forms = list(dict.fromkeys(metric.form for metric in metrics))
    summed = _summed(rows, [form for form in forms if isinstance(form, Additive)])
    others = {form: form(rows) for form in forms if not isinstance(form, Additive)}

    def values(weights: Weights) -> Floats:
        summaries = {form: summary(weights) for form, summary in others.items()}
        summaries |= summed(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = [metric.value(summaries[metric.form]) for metric in metrics]
        # A count over nothing is undefined, also where IEEE division calls it infinite.
        stacked: NDArray[np.float64] = np.stack(found)
        return np.where(np.isfinite(stacked), stacked, np.nan)

    return values
