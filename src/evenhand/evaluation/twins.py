"""Measure sensitivity to a shortcut: the distance between the scores of twins, by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import stdtrit

from evenhand.evaluation.requests import Request
from evenhand.evaluation.rows import groups_in, scored_rows, split_rows
from evenhand.evaluation.settings import MeasureSettings
from evenhand.metrics import EVERYBODY
from evenhand.metrics.groups import Groups
from evenhand.representation.jackknife import JackknifeEstimate
from evenhand.tables.attributes import UNKNOWN
from evenhand.tables.columns import PAIR
from evenhand.tables.predictions import Predictions

FEWEST = 10
"""The number of patients with twins below which a number has no interval."""

Values = NDArray[np.float64]


class TwinRow(BaseModel, frozen=True):
    """The distance between the scores of twins, for one model and group.

    Attributes
    ----------
    model, against
        The model; if ``against`` names another model, the number is the first minus the other.
    attribute, group, reference
        The group; if ``reference`` names another group, the number is the group minus the other.
    value, low, high
        Mean distance between the scores of two twins, from 0 to 1, and its interval by patient.
        All are None without twins; the interval is None with fewer than 10 patients.
    decided_otherwise
        The share of pairs of twins with different decisions; None for differences.
    pairs, patients
        The number of pairs of twins, and of their patients.
    """

    model: str
    against: str | None = None
    attribute: str
    group: str
    reference: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    decided_otherwise: float | None = None
    pairs: int = 0
    patients: int = 0


class TwinRecord(BaseModel, frozen=True):
    """The content of ``twins.json``: all rows, and the nominal coverage of the intervals."""

    schema_version: int = 1
    split: str
    level: float
    rows: tuple[TwinRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Twins:
    """Pairs of twins, as arrays with one entry for each of n pairs.

    Attributes
    ----------
    distance
        ``(n,)`` distance between the scores of the two twins: half the sum over classes of the
        absolute differences (for two classes: the difference of the scores).
    otherwise
        ``(n,)`` 1 if the twins have different decisions, else 0.
    patients
        ``(n,)`` number of the patient.
    group
        Attribute → ``(n,)`` groups; ``unknown`` if the group is unknown or the twins' groups
        differ.
    """

    distance: Values
    otherwise: Values
    patients: NDArray[np.intp]
    group: Mapping[str, NDArray[np.str_]]

    def mean_distance(self, chosen: NDArray[np.bool_], people: int) -> JackknifeEstimate | None:
        """Return the mean distance of the chosen pairs and each patient's influence on it.

        ``people`` is the number of patients. The result is None if no pair is chosen.
        """
        if not chosen.any():
            return None
        sums = np.bincount(self.patients[chosen], self.distance[chosen], people)
        counts = np.bincount(self.patients[chosen], minlength=people)
        total, n = sums.sum(), counts.sum()
        value = total / n
        remaining = n - counts
        left_out = np.divide(
            total - sums, remaining, out=np.full(people, value), where=remaining > 0
        )
        involved = np.count_nonzero(counts)
        influence = np.where(counts > 0, value - left_out, 0.0) * np.sqrt(1 - 1 / involved)
        return JackknifeEstimate(np.asarray(value), influence)


def twin_record(
    requests: Mapping[str, Request],
    pairs: Sequence[tuple[str, str]],
    settings: MeasureSettings,
) -> TwinRecord | None:
    """Return the distances between twins for each model; None if no model has a column of twins.

    Parameters
    ----------
    requests
        The models' predictions, attributes and thresholds.
    pairs
        Pairs of models to compare, the first minus the second, if both have the same twins.
    settings
        The split to measure, and the nominal coverage of the intervals.
    """
    split, level = settings.split, settings.level
    with_pairs = {
        name: (split_rows(request.predictions, split), request)
        for name, request in requests.items()
        if PAIR in request.predictions.table
    }
    if not with_pairs:
        return None
    twins = {
        name: model_twins
        for name, (rows, request) in with_pairs.items()
        if (model_twins := find_twins(rows, request)) is not None
    }
    if not twins:
        note = f"No two samples of the split {split!r} are twins."
        return TwinRecord(split=split, level=level, rows=(), notes=(note,))
    groups = {
        name: groups_in(rows, request.attributes) for name, (rows, request) in with_pairs.items()
    }
    rows = [
        row
        for name, model_twins in twins.items()
        for row in _rows_of_model(name, model_twins, groups[name], level)
    ]
    for name, other in pairs:
        if name in twins and other in twins:
            both = twins[name], twins[other]
            if np.array_equal(both[0].patients, both[1].patients):
                rows += _differences((name, other), both, groups[name], level)
    return TwinRecord(split=split, level=level, rows=tuple(rows), notes=_notes(twins))


def find_twins(rows: Predictions, request: Request) -> Twins | None:
    """Return the pairs of samples with the same value in the column of pairs; None without any."""
    names = rows.table[PAIR].astype("str")
    twin_rows = np.flatnonzero(names.duplicated(keep=False) & (names != ""))
    if not len(twin_rows):
        return None
    order = np.argsort(pd.factorize(names.to_numpy()[twin_rows])[0], kind="stable")
    first, second = twin_rows[order].reshape(-1, 2).T
    scored = scored_rows(rows, request.cut)
    decided = np.eye(len(scored.classes))[scored.decisions]
    scores = np.stack([1 - rows.scores, rows.scores], axis=1) if scored.binary else rows.scores

    groups = {}
    for name, column in groups_in(rows, request.attributes).items():
        differ = column.codes[first] != column.codes[second]
        levels = np.array([*column.levels, UNKNOWN], dtype=np.str_)[column.codes[first]]
        groups[name] = np.where(differ, UNKNOWN, levels).astype(np.str_)
    return Twins(
        np.abs(scores[first] - scores[second]).sum(axis=1) / 2,
        np.abs(decided[first] - decided[second]).sum(axis=1) / 2,
        rows.patients[0][first],
        groups,
    )


def _comparisons(
    twins: Twins, groups: Mapping[str, Groups]
) -> Iterator[tuple[str, str, str | None]]:
    """Yield attribute, group and reference (None, then the largest group) of each row."""
    yield EVERYBODY, EVERYBODY, None
    for name, column in groups.items():
        levels = column.compared()
        if not levels:
            continue
        largest = max(levels, key=lambda level: np.count_nonzero(twins.group[name] == level))
        for level in levels:
            yield name, level, None
        for level in levels:
            if level != largest:
                yield name, level, largest


def _chosen(twins: Twins, attribute: str, group: str) -> NDArray[np.bool_]:
    if attribute == EVERYBODY:
        return np.ones(len(twins.distance), np.bool_)
    chosen: NDArray[np.bool_] = twins.group[attribute] == group
    return chosen


def _rows_of_model(
    name: str, twins: Twins, groups: Mapping[str, Groups], level: float
) -> Iterator[TwinRow]:
    people = int(twins.patients.max()) + 1
    for attribute, group, reference in _comparisons(twins, groups):
        chosen = _chosen(twins, attribute, group)
        mean, pairs = twins.mean_distance(chosen, people), chosen
        if reference is not None:
            in_reference = _chosen(twins, attribute, reference)
            mean = _difference(mean, twins.mean_distance(in_reference, people))
            pairs = chosen | in_reference
        row = _row(name, (attribute, group, reference), mean, twins, pairs, level)
        if reference is None and chosen.any():
            otherwise = float(twins.otherwise[chosen].mean())
            low, high = (end and min(max(end, 0.0), 1.0) for end in (row.low, row.high))
            limited = {"decided_otherwise": otherwise, "low": low, "high": high}
            row = row.model_copy(update=limited)
        yield row


def _differences(
    names: tuple[str, str], both: tuple[Twins, Twins], groups: Mapping[str, Groups], level: float
) -> Iterator[TwinRow]:
    """Yield each group's difference between two models, paired by patient."""
    people = int(both[0].patients.max()) + 1
    for attribute, group, reference in _comparisons(both[0], groups):
        if reference is None:
            chosen = _chosen(both[0], attribute, group)
            mean = _difference(*(twins.mean_distance(chosen, people) for twins in both))
            row = _row(names[0], (attribute, group, None), mean, both[0], chosen, level)
            yield row.model_copy(update={"against": names[1]})


def _row(
    model: str,
    comparison: tuple[str, str, str | None],
    mean: JackknifeEstimate | None,
    twins: Twins,
    pairs: NDArray[np.bool_],
    level: float,
) -> TwinRow:
    """Return the row of a mean distance, or of a difference of two, over some pairs."""
    attribute, group, reference = comparison
    patients = len(np.unique(twins.patients[pairs]))
    low = high = None
    if mean is not None and patients >= FEWEST:
        reach = float(-stdtrit(patients - 1, (1 - level) / 2) * mean.error)
        low, high = float(mean.value) - reach, float(mean.value) + reach
    return TwinRow(
        model=model,
        attribute=attribute,
        group=group,
        reference=reference,
        value=None if mean is None else float(mean.value),
        low=low,
        high=high,
        pairs=int(np.count_nonzero(pairs)),
        patients=patients,
    )


def _difference(
    first: JackknifeEstimate | None, second: JackknifeEstimate | None
) -> JackknifeEstimate | None:
    return None if first is None or second is None else first.minus(second)


def _notes(twins: Mapping[str, Twins]) -> tuple[str, ...]:
    """Return a note for each attribute that is unknown or differs between twins."""
    first = next(iter(twins.values()))
    return tuple(
        f"{name}: it is unknown or differs between the twins in "
        f"{np.count_nonzero(group == UNKNOWN)} of {len(group)} pairs; these belong to no group."
        for name, group in first.group.items()
        if (group == UNKNOWN).any()
    )
