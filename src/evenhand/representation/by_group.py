"""Similarity of two models by group, from their layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics import UNKNOWN, Groups, holm
from evenhand.representation.cka import batches, cka
from evenhand.representation.jackknife import Jackknifed, mean_size, size_ratio
from evenhand.representation.layers import Layer
from evenhand.representation.permutation import group_test
from evenhand.representation.results import (
    AttributeSimilarity,
    GroupSimilarity,
    LayerMatrix,
    Matrix,
    Similarity,
    SizeRatio,
)
from evenhand.wording import counted


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


def measure_similarity(patients: Patients, settings: Comparison) -> Similarity:
    """Return everybody's similarity, each group's, and the contrasts of groups and attributes.

    All groups of an attribute have batches of one size: that of the smallest group that is large
    enough. The best and the worst group are those that the models serve best and worst.
    """
    everybody = np.arange(len(patients.labels))
    rng = np.random.default_rng(settings.seed)
    dealt = batches(everybody, min(settings.batch, len(everybody)), rng)
    whole = cka(*patients.layers, dealt)
    by_attribute = {name: _attribute(patients, name, settings, rng) for name in patients.groups}
    contrasts = {
        name: numbers for name, (_, numbers) in by_attribute.items() if numbers is not None
    }
    return Similarity(
        patients=len(everybody),
        everybody=_matrix(whole, settings.level),
        attributes=_adjusted({name: measured for name, (measured, _) in by_attribute.items()}),
        ratios=tuple(_ratios(contrasts, settings)),
    )


def _attribute(
    patients: Patients, name: str, settings: Comparison, rng: np.random.Generator
) -> tuple[AttributeSimilarity, Jackknifed | None]:
    """Return an attribute's similarity, and the best group's less the worst's."""
    groups, served = patients.groups[name], patients.performance[name]
    rows = {level: groups.rows(level) for level in groups.levels}
    large = [level for level in groups.compared() if len(rows[level]) >= settings.minimum]
    size = min([settings.batch, *(len(rows[level]) for level in large)])
    values = {level: cka(*patients.layers, batches(rows[level], size, rng)) for level in large}
    measured = []
    for level in groups.levels:
        count = len(rows[level])
        group = GroupSimilarity(group=level, patients=count, auc=_finite(served.get(level)))
        if level in values:
            group = replace(group, **vars(_matrix(values[level], settings.level)))
            if len(large) > 1:
                group = _tested(group, patients, rows[level], settings, rng)
        else:
            group = replace(group, undefined=_why_not(level, count, settings))
        measured.append(group)
    attribute = AttributeSimilarity(batch=size, groups=tuple(measured))
    ranked = sorted(
        (level for level in large if not np.isnan(served.get(level, np.nan))),
        key=served.__getitem__,
    )
    if len(ranked) < 2:
        reason = "fewer than two groups that can be ranked by AUC"
        return replace(attribute, undefined=reason), None
    difference = values[ranked[-1]].less(values[ranked[0]])
    contrasted = replace(
        attribute,
        best=ranked[-1],
        worst=ranked[0],
        difference=_matrix(difference, settings.level),
        size=mean_size(difference, settings.level, np.random.default_rng(settings.seed)),
    )
    return contrasted, difference


def _tested(
    group: GroupSimilarity,
    patients: Patients,
    rows: NDArray[np.intp],
    settings: Comparison,
    rng: np.random.Generator,
) -> GroupSimilarity:
    """Return a group with the p-values of its difference from the rest."""
    everybody = np.arange(len(patients.labels))
    member = np.isin(everybody, rows)
    test = group_test(
        patients.layers, everybody, member, patients.labels, settings.permutations, rng
    )
    return replace(group, p=test.p, p_layers=_cells(test.p_adjusted))


def _adjusted(attributes: Mapping[str, AttributeSimilarity]) -> dict[str, AttributeSimilarity]:
    """Add to each group's p-value the one that is adjusted for all groups of all attributes."""
    p = [g.p for attribute in attributes.values() for g in attribute.groups if g.p is not None]
    adjusted = iter(holm(p))
    return {
        name: replace(
            attribute,
            groups=tuple(
                group if group.p is None else replace(group, p_adjusted=float(next(adjusted)))
                for group in attribute.groups
            ),
        )
        for name, attribute in attributes.items()
    }


def _ratios(contrasts: Mapping[str, Jackknifed], settings: Comparison) -> Iterator[SizeRatio]:
    """Yield how many times further apart the groups of an attribute are than another's."""
    order = sorted(contrasts, key=lambda name: -float(np.abs(contrasts[name].value).mean()))
    for first, second in combinations(order, 2):
        rng = np.random.default_rng(settings.seed)
        ratio = size_ratio(contrasts[first], contrasts[second], settings.level, rng)
        if ratio is None:
            reason = f"the interval of the difference by {second} holds 0"
            yield SizeRatio(attribute=first, over=second, undefined=reason)
        else:
            yield SizeRatio(attribute=first, over=second, **vars(ratio))


def _why_not(level: str, count: int, settings: Comparison) -> str:
    if level == UNKNOWN:
        return "unknown is not compared"
    return f"{counted(count, 'patient')}; {settings.minimum} are needed for a claim"


def _matrix(numbers: Jackknifed, level: float) -> LayerMatrix:
    low, high = numbers.interval(level)
    return LayerMatrix(_cells(numbers.value), _cells(low), _cells(high))


def _cells(values: NDArray[np.float64]) -> Matrix:
    return tuple(tuple(_finite(float(value)) for value in row) for row in values)


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value
