"""The data request: how many more patients of which group would let a gap be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.outcome import Outcome
from evenhand.metrics.power import detectable_gap, factor_for
from evenhand.metrics.recipes import is_auc_of_group
from evenhand.metrics.rows import Key
from evenhand.reporting.part import Part, Table
from evenhand.reporting.section import PART, section
from evenhand.reporting.sections.learning_curve import curve_part
from evenhand.reporting.text.numbers import plain


class More(NamedTuple):
    """How many patients are to be added, and of two classes how many positive samples of them."""

    patients: int
    positives: int | None


@dataclass(frozen=True)
class DataRequest:
    """What a gap in AUC between two groups needs.

    Attributes
    ----------
    attribute, group, reference
        The groups; the reference has most patients.
    gap
        The gap that can be told now, with power .8.
    more
        What is to be tested of the group beside what is there, and of the reference. None where
        no number would do.
    """

    attribute: str
    group: str
    reference: str
    gap: float
    more: tuple[More, More] | None


def requests_of(result: Result, wanted: float) -> list[DataRequest]:
    """Return what each group needs for a gap to be told between it and the largest group.

    The error of a group's AUC under `ERM` is the bootstrap's over patients, of the mean over seeds,
    and falls with the root of the number of patients; the group keeps its share of positives.
    Where more of the group alone will not do, both groups grow by the same factor.
    """
    keys = [key for key in result.values[ERM] if is_auc_of_group(key)]
    requests = []
    for attribute in dict.fromkeys(key.attribute for key in keys):
        own = [key for key in keys if key.attribute == attribute]
        reference = max(own, key=lambda key: result.sizes[key][1])
        requests += [_request(result, key, reference, wanted) for key in own if key != reference]
    return requests


def _request(result: Result, key: Key, reference: Key, wanted: float) -> DataRequest:
    own, other = (_error(result, group_key) for group_key in (key, reference))

    def gap(first: float, second: float) -> float:
        return detectable_gap(math.hypot(own / math.sqrt(first), other / math.sqrt(second)))

    now, more = gap(1, 1), None
    if np.isfinite(now):
        alone = factor_for(lambda factor: gap(factor, 1), wanted)
        both = factor_for(lambda factor: gap(factor, factor), wanted) if alone is None else alone
        if both is not None:
            grown = 1.0 if alone is not None else both
            more = (_added(result, key, both), _added(result, reference, grown))
    return DataRequest(key.attribute, key.group, reference.group, now, more)


def _error(result: Result, key: Key) -> float:
    return float(np.nanstd(result.values[ERM][key][:, 1:].mean(axis=0), ddof=1))


def _added(result: Result, key: Key, factor: float) -> More:
    _, patients, positives = result.sizes[key]
    grown = None if positives is None else math.ceil((factor - 1) * positives)
    return More(math.ceil((factor - 1) * patients), grown)


@section("benchmark", "request", "Data request", place=70, template=PART)
def request_part(outcome: Outcome) -> Part | None:
    """Return the data request; None where there are no groups to tell apart."""
    result, wanted = outcome.result, outcome.settings.gap
    rows = [
        (
            f"{request.attribute}: {request.group} and {request.reference}",
            plain(request.gap) if np.isfinite(request.gap) else "undefined",
            _text(request),
        )
        for request in requests_of(result, wanted)
    ]
    if not rows:
        return None
    says = (
        f"How many patients, tested beside those of here, would let a gap of {plain(wanted)} in "
        f"AUC be told of {ERM} with power .8, before any correction. Groups keep their share of "
        "each class. This is about telling a gap; whether more training patients would narrow it, "
        "a learning curve shows (--curve)."
    )
    columns = ("Groups", "Gap that can be told now", "Patients to ask for")
    table = Table("What a gap needs", columns, tuple(rows))
    return Part(sentences=(says,), tables=(table,))


@section("benchmark", "curves", "What more training patients buy", place=75, template=PART)
def curves_part(outcome: Outcome) -> Part | None:
    """Return what more training patients buy the groups that erm serves worst."""
    if not outcome.curves:
        return None
    says = (
        f"{ERM} with fewer training patients: in every fold and for every seed, at the learning "
        "rate that it has chosen on all of them, and in about as many steps. Smaller shares are "
        "parts of larger ones. The intervals of a curve are corrected together; it is no part of "
        "the plan, so that it claims nothing of the entries."
    )
    parts = [curve_part(curve, outcome.result.worst) for curve in outcome.curves]
    return Part(
        sentences=(says, *(sentence for part in parts for sentence in part.sentences)),
        charts=tuple(chart for part in parts for chart in part.charts),
        folds=tuple(fold for part in parts for fold in part.folds),
    )


def _text(request: DataRequest) -> str:
    if request.more is None:
        return "no number would do, as a group lacks a class or has too few"
    parts = [
        f"{more.patients:,} of {group}{_positive(more)}"
        for group, more in zip((request.group, request.reference), request.more, strict=True)
        if more.patients
    ]
    return "; ".join(parts) or "none"


def _positive(more: More) -> str:
    return "" if more.positives is None else f", {more.positives:,} of their samples positive"
