"""Sensitivity to a shortcut: how far the scores of twins lie apart, by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import stdtrit

from evenhand.evaluation.requests import Request
from evenhand.evaluation.rows import groups_in, rows_of, scored_rows
from evenhand.evaluation.settings import MeasureSettings
from evenhand.metrics import EVERYBODY
from evenhand.metrics.groups import UNKNOWN, Groups
from evenhand.representation.jackknife import Jackknifed
from evenhand.tables.columns import PAIR
from evenhand.tables.predictions import Predictions

FEWEST = 10
"""Patients with twins below which a number has no interval."""

Values = NDArray[np.float64]


class TwinRow(BaseModel, frozen=True):
    """How far the scores of twins lie apart, of one model and group.

    Attributes
    ----------
    model, against
        The model; with ``against``, the number is this model's less that of the other model.
    attribute, group, reference
        The group; with ``reference``, the number is this group's less that of the other group.
    value, low, high
        Mean distance of the scores of two twins, from 0 to 1, with its interval by patient; None
        where there are no twins, and no interval below 10 patients.
    decided_otherwise
        The share of pairs of twins that get different decisions; None for differences.
    pairs, patients
        How many sets of twins there are, and their patients.
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
    """The content of ``twins.json``: every number, and the level of the intervals."""

    schema_version: int = 1
    split: str
    level: float
    rows: tuple[TwinRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Twins:
    """Sets of twins, one entry each.

    Attributes
    ----------
    distance
        Mean distance of the scores of two twins: half the sum over classes of their absolute
        differences, which for two classes is the difference of the score.
    otherwise
        The share of pairs with different decisions.
    patients
        The number of the patient.
    group
        The group by attribute; ``unknown`` where it is, and where the twins' groups differ.
    """

    distance: Values
    otherwise: Values
    patients: NDArray[np.intp]
    group: Mapping[str, NDArray[np.str_]]

    def select(self, chosen: NDArray[np.bool_], people: int) -> Jackknifed | None:
        """Return the mean distance of some sets with each patient's influence, None for no set."""
        if not chosen.any():
            return None
        sums = np.bincount(self.patients[chosen], self.distance[chosen], people)
        counts = np.bincount(self.patients[chosen], minlength=people)
        total, n = sums.sum(), counts.sum()
        value = total / n
        left = n - counts
        without = np.divide(total - sums, left, out=np.full(people, value), where=left > 0)
        own = np.count_nonzero(counts)
        influence = np.where(counts > 0, value - without, 0.0) * np.sqrt(1 - 1 / own)
        return Jackknifed(np.asarray(value), influence)


def twin_record(
    requests: Mapping[str, Request],
    pairs: Sequence[tuple[str, str]],
    settings: MeasureSettings,
) -> TwinRecord | None:
    """Return how far each model's scores of twins lie apart; None where no model knows of twins.

    Parameters
    ----------
    requests
        The models' predictions, attributes and thresholds.
    pairs
        Models that are compared, the first less the second, where both have the same twins.
    settings
        Whose rows are looked at, and the nominal coverage of the intervals.
    """
    split, level = settings.split, settings.level
    every = {
        name: (rows_of(request.predictions, split), request)
        for name, request in requests.items()
        if PAIR in request.predictions.table
    }
    if not every:
        return None
    by_model = {name: find_twins(rows, request) for name, (rows, request) in every.items()}
    twins = {name: of_model for name, of_model in by_model.items() if of_model is not None}
    if not twins:
        note = f"No two samples of the split {split!r} are twins."
        return TwinRecord(split=split, level=level, rows=(), notes=(note,))
    groups = {name: groups_in(rows, request.attributes) for name, (rows, request) in every.items()}
    rows = [
        row
        for name, of_model in twins.items()
        for row in _rows_of_model(name, of_model, groups[name], level)
    ]
    for name, other in pairs:
        if name in twins and other in twins and _same(twins[name], twins[other]):
            rows += _differences((name, other), (twins[name], twins[other]), groups[name], level)
    return TwinRecord(split=split, level=level, rows=tuple(rows), notes=_notes(twins))


def find_twins(rows: Predictions, request: Request) -> Twins | None:
    """Return the sets of samples that share a value of the column of pairs; None without any."""
    names = rows.table[PAIR].astype("str")
    named = (names != "").to_numpy()
    repeated = names.duplicated(keep=False).to_numpy() & named
    if not repeated.any():
        return None
    scored = scored_rows(rows, request.cut)
    decided = np.eye(len(scored.classes))[scored.decisions]
    scores = np.stack([1 - rows.scores, rows.scores], axis=1) if scored.binary else rows.scores
    places = np.flatnonzero(repeated)
    numbers, sets = pd.factorize(names.to_numpy()[places])
    first = places[np.unique(numbers, return_index=True)[1]]
    frame = pd.DataFrame({"number": numbers, "row": places})
    both = frame.merge(frame, on="number")
    both = both[both["row_x"] < both["row_y"]]
    number, first_row, other = (both[name].to_numpy() for name in ("number", "row_x", "row_y"))
    counts = np.bincount(number, minlength=len(sets))

    def mean_over_pairs(values: Values) -> Values:
        means: Values = np.bincount(number, values, len(sets)) / counts
        return means

    groups = {}
    for name, each in groups_in(rows, request.attributes).items():
        differ = (
            mean_over_pairs((each.codes[first_row] != each.codes[other]).astype(np.float64)) > 0
        )
        levels = np.array([*each.levels, UNKNOWN], dtype=np.str_)[each.codes[first]]
        groups[name] = np.where(differ, UNKNOWN, levels).astype(np.str_)
    return Twins(
        mean_over_pairs(np.abs(scores[first_row] - scores[other]).sum(axis=1) / 2),
        mean_over_pairs(np.abs(decided[first_row] - decided[other]).sum(axis=1) / 2),
        rows.patients[0][first],
        groups,
    )


def _cells(twins: Twins, groups: Mapping[str, Groups]) -> Iterator[tuple[str, str, str | None]]:
    """Yield attribute, group and, for the second row of a group, what it is compared with."""
    yield EVERYBODY, EVERYBODY, None
    for name, each in groups.items():
        levels = each.compared()
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
        number, counted = twins.select(chosen, people), chosen
        if reference is not None:
            beside = _chosen(twins, attribute, reference)
            number = _less(number, twins.select(beside, people))
            counted = chosen | beside
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
            number = _less(*(twins.select(chosen, people) for twins in both))
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
    return None if first is None or second is None else first.less(second)


def _same(first: Twins, second: Twins) -> bool:
    return np.array_equal(first.patients, second.patients)


def _notes(twins: Mapping[str, Twins]) -> tuple[str, ...]:
    """Say of which attributes the twins themselves differ."""
    of_model = next(iter(twins.values()))
    return tuple(
        f"{name}: the twins differ in it themselves, or it is unknown, in "
        f"{np.count_nonzero(group == UNKNOWN)} of {len(group)} sets, which are in no group."
        for name, group in of_model.group.items()
        if (group == UNKNOWN).any()
    )
