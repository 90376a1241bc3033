"""Similarity of two models by group, from their layers: arrays and names in, records out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics import UNKNOWN, Groups, holm
from evenhand.representation.cka import batches, cka
from evenhand.representation.jackknife import Jackknifed, Size, mean_size, size_ratio
from evenhand.representation.layers import Layer
from evenhand.representation.permutation import group_test
from evenhand.wording import counted

Record = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """How groups are compared.

    Attributes
    ----------
    batch
        Patients at a time, at most, equal in all groups.
    minimum
        Patients that a group needs.
    level
        Coverage of the intervals.
    permutations
        Of the test of each group against the rest.
    seed
        Of batches and permutations.
    """

    batch: int
    minimum: int
    level: float
    permutations: int
    seed: int


@dataclass(frozen=True, eq=False)
class Patients:
    """One sample of each patient, as two models see it.

    Attributes
    ----------
    layers
        Of the two models.
    labels
        ``(n,)`` classes.
    groups
        The level of each patient, by attribute.
    performance
        How well the models do in each group, both together, by attribute and level; NaN where
        that is undefined.
    """

    layers: tuple[Sequence[Layer], Sequence[Layer]]
    labels: NDArray[np.int64]
    groups: Mapping[str, Groups]
    performance: Mapping[str, Mapping[str, float]]


def measure_similarity(patients: Patients, settings: Comparison) -> Record:
    """Return everybody's similarity, each group's, and what sets groups and attributes apart.

    Groups are looked at in batches of one size: that of the smallest group that is large enough.
    The best and the worst group are those that the models serve best and worst.
    """
    everybody = np.arange(len(patients.labels))
    rng = np.random.default_rng(settings.seed)
    dealt = batches(everybody, min(settings.batch, len(everybody)), rng)
    whole = cka(*patients.layers, dealt)
    by_attribute = {name: _attribute(patients, name, settings, rng) for name in patients.groups}
    _adjust([record for record, _ in by_attribute.values()])
    apart = {name: numbers for name, (_, numbers) in by_attribute.items() if numbers is not None}
    return {
        "patients": len(everybody),
        "everybody": _matrix(whole, settings.level),
        "attributes": {name: record for name, (record, _) in by_attribute.items()},
        "ratios": _ratios(apart, settings),
    }


def _attribute(
    patients: Patients, name: str, settings: Comparison, rng: np.random.Generator
) -> tuple[Record, Jackknifed | None]:
    """Return what is said of an attribute, and the best group's similarity less the worst's."""
    groups, served = patients.groups[name], patients.performance[name]
    rows = {level: groups.rows(level) for level in groups.levels}
    large = [level for level in groups.compared() if len(rows[level]) >= settings.minimum]
    size = min([settings.batch, *(len(rows[level]) for level in large)])
    values = {level: cka(*patients.layers, batches(rows[level], size, rng)) for level in large}
    records = []
    for level in groups.levels:
        record = {"group": level, "patients": len(rows[level]), "auc": _finite(served.get(level))}
        if level in values:
            record |= _matrix(values[level], settings.level)
            record |= _tested(patients, rows[level], settings, rng) if len(large) > 1 else {}
        else:
            record["undefined"] = _why_not(level, len(rows[level]), settings)
        records.append(record)
    record = {"batch": size, "groups": records}
    ranked = sorted(
        (level for level in large if not np.isnan(served.get(level, np.nan))),
        key=served.__getitem__,
    )
    if len(ranked) < 2:
        return {**record, "undefined": "fewer than two groups that can be ranked by AUC"}, None
    difference = values[ranked[-1]].less(values[ranked[0]])
    return {
        **record,
        "best": ranked[-1],
        "worst": ranked[0],
        "difference": _matrix(difference, settings.level),
        "size": _size(mean_size(difference, settings.level, np.random.default_rng(settings.seed))),
    }, difference


def _tested(
    patients: Patients,
    rows: NDArray[np.intp],
    settings: Comparison,
    rng: np.random.Generator,
) -> Record:
    everybody = np.arange(len(patients.labels))
    member = np.isin(everybody, rows)
    test = group_test(
        patients.layers, everybody, member, patients.labels, settings.permutations, rng
    )
    return {"p": test.p, "p_layers": _cells(test.p_adjusted)}


def _adjust(attributes: Sequence[Record]) -> None:
    """Add to each group's p-value the one that is adjusted for all groups of all attributes."""
    tested = [row for record in attributes for row in record["groups"] if "p" in row]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_adjusted"] = float(adjusted)


def _ratios(apart: Mapping[str, Jackknifed], settings: Comparison) -> list[Record]:
    """Return how many times further apart the groups of an attribute are than another's."""
    order = sorted(apart, key=lambda name: -float(np.abs(apart[name].value).mean()))
    records = []
    for place, one in enumerate(order):
        for other in order[place + 1 :]:
            rng = np.random.default_rng(settings.seed)
            ratio = size_ratio(apart[one], apart[other], settings.level, rng)
            reason = f"the interval of the difference by {other} holds 0"
            ratio_size = {"undefined": reason} if ratio is None else _size(ratio)
            records.append({"attribute": one, "over": other, **ratio_size})
    return records


def _why_not(level: str, count: int, settings: Comparison) -> str:
    if level == UNKNOWN:
        return "unknown is not compared"
    return f"{counted(count, 'patient')}; {settings.minimum} are needed for a claim"


def _matrix(numbers: Jackknifed, level: float) -> Record:
    low, high = numbers.interval(level)
    return {"value": _cells(numbers.value), "low": _cells(low), "high": _cells(high)}


def _cells(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [[_finite(float(value)) for value in row] for row in values]


def _size(size: Size) -> Record:
    return {"value": size.value, "low": size.low, "high": size.high}


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value
