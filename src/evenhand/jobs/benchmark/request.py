"""The data request: the numbers of further patients that are needed to detect a gap."""

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
from evenhand.reporting.section import PART, Part, Table, section
from evenhand.reporting.sections.learning_curve import curve_part
from evenhand.reporting.text.vocabulary import plain


class AddedPatients(NamedTuple):
    """The number of patients to add, and with two classes their number of positive samples."""

    patients: int
    positives: int | None


@dataclass(frozen=True)
class DataRequest:
    """The patients that are needed to detect a gap in AUC between two groups.

    Attributes
    ----------
    attribute, group, reference
        The two groups; the reference has the most patients.
    gap
        The gap that can be detected now, with power .8.
    added
        The patients to add to the group and to the reference; None if no number suffices.
    """

    attribute: str
    group: str
    reference: str
    gap: float
    added: tuple[AddedPatients, AddedPatients] | None


def make_requests(result: Result, target_gap: float) -> list[DataRequest]:
    """Return the patients needed to detect a gap between each group and the largest group.

    The standard error of a group's AUC under `ERM` is that of the bootstrap over patients, of the
    mean over seeds. It is inversely proportional to the root of the number of patients, of whom the
    same share is positive. If a larger group alone cannot suffice, both groups grow by the same
    factor.
    """
    keys = [key for key in result.values[ERM] if is_auc_of_group(key)]
    requests = []
    for attribute in dict.fromkeys(key.attribute for key in keys):
        groups = [key for key in keys if key.attribute == attribute]
        reference = max(groups, key=lambda key: result.sizes[key].patients)
        requests += [
            _request(result, key, reference, target_gap) for key in groups if key != reference
        ]
    return requests


def _request(result: Result, key: Key, reference: Key, target_gap: float) -> DataRequest:
    group_error, reference_error = (_error(result, group_key) for group_key in (key, reference))

    def gap(group_factor: float, reference_factor: float) -> float:
        return detectable_gap(
            math.hypot(
                group_error / math.sqrt(group_factor), reference_error / math.sqrt(reference_factor)
            )
        )

    present, added = gap(1, 1), None
    if np.isfinite(present):
        factor = factor_for(lambda factor: gap(factor, 1), target_gap)
        reference_factor: float | None = 1.0
        if factor is None:
            factor = factor_for(lambda factor: gap(factor, factor), target_gap)
            reference_factor = factor
        if factor is not None and reference_factor is not None:
            added = (_added(result, key, factor), _added(result, reference, reference_factor))
    return DataRequest(key.attribute, key.group, reference.group, present, added)


def _error(result: Result, key: Key) -> float:
    return float(np.nanstd(result.values[ERM][key][:, 1:].mean(axis=0), ddof=1))


def _added(result: Result, key: Key, factor: float) -> AddedPatients:
    size = result.sizes[key]
    positives = None if size.positives is None else math.ceil((factor - 1) * size.positives)
    return AddedPatients(math.ceil((factor - 1) * size.patients), positives)


@section("benchmark", "request", "Data request", place=70, template=PART)
def request_part(outcome: Outcome) -> Part | None:
    """Return the section about the data request; None if there are no groups to compare."""
    result, target_gap = outcome.result, outcome.settings.gap
    rows = [
        (
            f"{request.attribute}: {request.group} and {request.reference}",
            plain(request.gap) if np.isfinite(request.gap) else "undefined",
            _text(request),
        )
        for request in make_requests(result, target_gap)
    ]
    if not rows:
        return None
    sentence = (
        f"The number of further test patients that are needed to detect a gap of "
        f"{plain(target_gap)} in the AUC of {ERM} with power .8, before any correction. Groups "
        "keep their share of each class. More test patients help to detect a gap; a learning curve "
        "shows whether more training patients would narrow it (--curve)."
    )
    columns = ("Groups", "Detectable gap now", "Patients to add")
    table = Table("Patients needed to detect the gap", columns, tuple(rows))
    return Part(sentences=(sentence,), tables=(table,))


@section("benchmark", "curves", "Gain from more training patients", place=75, template=PART)
def curves_part(outcome: Outcome) -> Part | None:
    """Return the section about learning curves; None without ``--curve``."""
    if not outcome.curves:
        return None
    introduction = (
        f"{ERM} with fewer training patients: in every fold and for every seed, at the learning "
        "rate that it chose with all of them, and in about as many steps. Smaller shares are "
        "subsets of larger ones. The intervals of a curve are corrected together. Curves are not "
        "part of the plan, and make no claims about entries."
    )
    parts = [curve_part(curve, outcome.result.worst) for curve in outcome.curves]
    return Part(
        sentences=(introduction, *(sentence for part in parts for sentence in part.sentences)),
        charts=tuple(chart for part in parts for chart in part.charts),
        hidden=tuple(hidden for part in parts for hidden in part.hidden),
    )


def _text(request: DataRequest) -> str:
    if request.added is None:
        return "no number suffices, as a group lacks a class or has too few patients"
    groups = (request.group, request.reference)
    parts = [
        f"{added.patients:,} of {group}{_positives_text(added)}"
        for group, added in zip(groups, request.added, strict=True)
        if added.patients
    ]
    return "; ".join(parts) or "none"


def _positives_text(added: AddedPatients) -> str:
    return "" if added.positives is None else f", {added.positives:,} of their samples positive"
