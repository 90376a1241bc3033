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
from evenhand.metrics.groups import UNKNOWN, Groups
from evenhand.representation.jackknife import Jackknifed
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
        The number of sets of twins, and of their patients.
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
    """Sets of twins, as arrays with one entry for each of n sets.

    Attributes
    ----------
    distance
        ``(n,)`` mean distance between the scores of two twins: half the sum over classes of the
        absolute differences (for two classes: the difference of the scores).
    otherwise
        ``(n,)`` share of pairs with different decisions.
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

    def mean_distance(self, chosen: NDArray[np.bool_], people: int) -> Jackknifed | None:
        """Return the mean distance of the chosen sets and each patient's influence on it.

        ``people`` is the number of patients. The result is None if no set is chosen.
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
        return Jackknifed(np.asarray(value), influence)


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
    by_model = {name: find_twins(rows, request) for name, (rows, request) in with_pairs.items()}
    twins = {name: sets for name, sets in by_model.items() if sets is not None}
    if not twins:
        note = f"No two samples of the split {split!r} are twins."
        return TwinRecord(split=split, level=level, rows=(), notes=(note,))
    groups = {
        name: groups_in(rows, request.attributes) for name, (rows, request) in with_pairs.items()
    }
    rows = [
        row
        for name, sets in twins.items()
        for row in _rows_of_model(name, sets, groups[name], level)
    ]
    for name, other in pairs:
        if name in twins and other in twins and _same_sets(twins[name], twins[other]):
            rows += _differences((name, other), (twins[name], twins[other]), groups[name], level)
    return TwinRecord(split=split, level=level, rows=tuple(rows), notes=_notes(twins))


def find_twins(rows: Predictions, request: Request) -> Twins | None:
    """Return the sets of samples with the same value in the column of pairs; None if none do."""
    names = rows.table[PAIR].astype("str")
    has_pair = (names != "").to_numpy()
    repeated = names.duplicated(keep=False).to_numpy() & has_pair
    if not repeated.any():
        return None
    scored = scored_rows(rows, request.cut)
    decided = np.eye(len(scored.classes))[scored.decisions]
    scores = np.stack([1 - rows.scores, rows.scores], axis=1) if scored.binary else rows.scores
    twin_rows = np.flatnonzero(repeated)
    numbers, sets = pd.factorize(names.to_numpy()[twin_rows])
    first = twin_rows[np.unique(numbers, return_index=True)[1]]
    frame = pd.DataFrame({"number": numbers, "row": twin_rows})
    both = frame.merge(frame, on="number")
    both = both[both["row_x"] < both["row_y"]]
    number, first_row, other = (both[name].to_numpy() for name in ("number", "row_x", "row_y"))
    counts = np.bincount(number, minlength=len(sets))

    def mean_over_pairs(values: Values) -> Values:
        means: Values = np.bincount(number, values, len(sets)) / counts
        return means

    groups = {}
    for name, column in groups_in(rows, request.attributes).items():
        unequal = (column.codes[first_row] != column.codes[other]).astype(np.float64)
        differ = mean_over_pairs(unequal) > 0
        levels = np.array([*column.levels, UNKNOWN], dtype=np.str_)[column.codes[first]]
        groups[name] = np.where(differ, UNKNOWN, levels).astype(np.str_)
    return Twins(
        mean_over_pairs(np.abs(scores[first_row] - scores[other]).sum(axis=1) / 2),
        mean_over_pairs(np.abs(decided[first_row] - decided[other]).sum(axis=1) / 2),
        rows.patients[0][first],
        groups,
    )


def _cells(twins: Twins, groups: Mapping[str, Groups]) -> Iterator[tuple[str, str, str | None]]:
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
    for attribute, group, reference in _cells(twins, groups):
        chosen = _chosen(twins, attribute, group)
        number, counted = twins.mean_distance(chosen, people), chosen
        if reference is not None:
            in_reference = _chosen(twins, attribute, reference)
            number = _less(number, twins.mean_distance(in_reference, people))
            counted = chosen | in_reference
        row = _row(name, (attribute, group, reference), number, twins, counted, level)
        if reference is None and chosen.any():
            otherwise = float(twins.otherwise[chosen].mean())
            row = row.model_copy(update={"decided_otherwise": otherwise})
        yield row


def _differences(
    names: tuple[str, str], both: tuple[Twins, Twins], groups: Mapping[str, Groups], level: float
) -> Iterator[TwinRow]:
    """Yield each group's difference between two models, paired by patient."""
    people = int(both[0].patients.max()) + 1
    for attribute, group, reference in _cells(both[0], groups):
        if reference is None:
            chosen = _chosen(both[0], attribute, group)
            number = _less(*(twins.mean_distance(chosen, people) for twins in both))
            row = _row(names[0], (attribute, group, None), number, both[0], chosen, level)
            yield row.model_copy(update={"against": names[1]})


def _row(
    model: str,
    cell: tuple[str, str, str | None],
    number: Jackknifed | None,
    twins: Twins,
    counted: NDArray[np.bool_],
    level: float,
) -> TwinRow:
    attribute, group, reference = cell
    patients = len(np.unique(twins.patients[counted]))
    low = high = None
    if number is not None and patients >= FEWEST:
        reach = float(-stdtrit(patients - 1, (1 - level) / 2) * number.error)
        low, high = float(number.value) - reach, float(number.value) + reach
    return TwinRow(
        model=model,
        attribute=attribute,
        group=group,
        reference=reference,
        value=None if number is None else float(number.value),
        low=low,
        high=high,
        pairs=int(np.count_nonzero(counted)),
        patients=patients,
    )


def _less(first: Jackknifed | None, second: Jackknifed | None) -> Jackknifed | None:
    return None if first is None or second is None else first.minus(second)


def _same_sets(first: Twins, second: Twins) -> bool:
    return np.array_equal(first.patients, second.patients)


def _notes(twins: Mapping[str, Twins]) -> tuple[str, ...]:
    """Return a note for each attribute that is unknown or differs between twins."""
    first = next(iter(twins.values()))
    return tuple(
        f"{name}: it is unknown or differs between the twins in "
        f"{np.count_nonzero(group == UNKNOWN)} of {len(group)} sets; these belong to no group."
        for name, group in first.group.items()
        if (group == UNKNOWN).any()
    )
