"""Similarity of two models' layers by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import count_text
from evenhand.files import finite_or_none
from evenhand.metrics import Groups, holm
from evenhand.representation.cka import Layer, batches, cka
from evenhand.representation.jackknife import JackknifeEstimate, mean_absolute_interval, size_ratio
from evenhand.representation.permutation import GroupSamples, group_test
from evenhand.representation.results import (
    AttributeSimilarity,
    GroupSimilarity,
    LayerMatrix,
    Matrix,
    Similarity,
    SizeRatio,
)
from evenhand.tables.attributes import UNKNOWN


@dataclass(frozen=True)
class Comparison:
    """Settings of a comparison of groups.

    Attributes
    ----------
    batch
        The largest number of patients in a batch; it is equal for all groups.
    minimum
        The smallest number of patients of a group that is compared.
    level
        Nominal coverage of the intervals.
    permutations
        Number of permutations in the test of each group against all other patients.
    seed
        Seed of batches and permutations.
    """

    batch: int
    minimum: int
    level: float
    permutations: int
    seed: int


@dataclass(frozen=True, eq=False)
class PatientLayers:
    """The layers of two models on one sample of each patient.

    Attributes
    ----------
    layers
        Layers of the first and of the second model.
    labels
        Classes ``(n,)``.
    groups
        Attribute → level of each patient.
    performance
        Attribute → level → AUC of both models together; NaN where it is undefined.
    """

    layers: tuple[Sequence[Layer], Sequence[Layer]]
    labels: NDArray[np.int64]
    groups: Mapping[str, Groups]
    performance: Mapping[str, Mapping[str, float]]


def measure_similarity(patients: PatientLayers, settings: Comparison) -> Similarity:
    """Return the similarity over all patients and by group, and contrasts of groups and attributes.

    All groups of an attribute have batches of equal size: the size of the smallest group that is
    compared. A contrast is the similarity in the group with the best performance minus that in the
    group with the worst.
    """
    everybody = np.arange(len(patients.labels))
    rng = np.random.default_rng(settings.seed)
    drawn = batches(everybody, min(settings.batch, len(everybody)), rng)
    whole = cka(*patients.layers, drawn)
    by_attribute = {
        name: _measure_attribute(patients, name, settings, rng) for name in patients.groups
    }
    contrasts = {
        name: contrast for name, (_, contrast) in by_attribute.items() if contrast is not None
    }
    return Similarity(
        patients=len(everybody),
        everybody=_layer_matrix(whole, settings.level, limit=1.0),
        attributes=_adjust({name: similarity for name, (similarity, _) in by_attribute.items()}),
        ratios=tuple(_ratios(contrasts, settings)),
    )


def _measure_attribute(
    patients: PatientLayers, name: str, settings: Comparison, rng: np.random.Generator
) -> tuple[AttributeSimilarity, JackknifeEstimate | None]:
    """Return an attribute's similarity, and the best group's minus the worst's if both have one."""
    groups, performance = patients.groups[name], patients.performance[name]
    rows = {level: groups.rows(level) for level in groups.levels}
    large = [level for level in groups.compared() if len(rows[level]) >= settings.minimum]
    size = min([settings.batch, *(len(rows[level]) for level in large)])
    values = {level: cka(*patients.layers, batches(rows[level], size, rng)) for level in large}
    measured = []
    for level in groups.levels:
        count = len(rows[level])
        group = GroupSimilarity(
            group=level, patients=count, auc=finite_or_none(performance.get(level))
        )
        if level in values:
            group = replace(group, **vars(_layer_matrix(values[level], settings.level, limit=1.0)))
            if len(large) > 1:
                group = _with_p(group, patients, rows[level], settings, rng)
        else:
            group = replace(group, undefined=_undefined_reason(level, count, settings))
        measured.append(group)
    attribute = AttributeSimilarity(batch=size, groups=tuple(measured))
    ranked = sorted(
        (level for level in large if not np.isnan(performance.get(level, np.nan))),
        key=performance.__getitem__,
    )
    if len(ranked) < 2:
        reason = "fewer than two groups that can be ranked by AUC"
        return replace(attribute, undefined=reason), None
    difference = values[ranked[-1]].minus(values[ranked[0]])
    defined = difference.defined()
    if not defined.value.size:
        return replace(attribute, undefined="no pair of layers varies in both groups"), None
    contrasted = replace(
        attribute,
        best=ranked[-1],
        worst=ranked[0],
        difference=_layer_matrix(difference, settings.level, limit=2.0),
        size=mean_absolute_interval(defined, settings.level, np.random.default_rng(settings.seed)),
    )
    return contrasted, defined


def _with_p(
    group: GroupSimilarity,
    patients: PatientLayers,
    rows: NDArray[np.intp],
    settings: Comparison,
    rng: np.random.Generator,
) -> GroupSimilarity:
    """Return a group with the p-values of its difference from all other patients."""
    everybody = np.arange(len(patients.labels))
    samples = GroupSamples(patients.layers, everybody, np.isin(everybody, rows), patients.labels)
    test = group_test(samples, settings.permutations, rng)
    return replace(group, p=finite_or_none(test.p), p_layers=_as_matrix(test.p_adjusted))


def _adjust(attributes: Mapping[str, AttributeSimilarity]) -> dict[str, AttributeSimilarity]:
    """Add p-values that are adjusted (Holm) for all groups of all attributes."""
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


def _ratios(
    contrasts: Mapping[str, JackknifeEstimate], settings: Comparison
) -> Iterator[SizeRatio]:
    """Yield, for pairs of attributes, the ratio of their mean differences between groups."""
    order = sorted(contrasts, key=lambda name: -float(np.abs(contrasts[name].value).mean()))
    for first, second in combinations(order, 2):
        rng = np.random.default_rng(settings.seed)
        ratio = size_ratio(contrasts[first], contrasts[second], settings.level, rng)
        if ratio is None:
            reason = (
                f"the interval of the difference by {second} contains 0, or that of the ratio is "
                "unbounded"
            )
            yield SizeRatio(attribute=first, over=second, undefined=reason)
        else:
            yield SizeRatio(attribute=first, over=second, **vars(ratio))


def _undefined_reason(level: str, count: int, settings: Comparison) -> str:
    if level == UNKNOWN:
        return "unknown is not compared"
    return f"{count_text(count, 'patient')}; {settings.minimum} are needed for a claim"


def _layer_matrix(numbers: JackknifeEstimate, level: float, *, limit: float) -> LayerMatrix:
    """Return numbers with intervals that are cut at ``-limit`` and ``limit``."""
    low, high = np.clip(numbers.interval(level), -limit, limit)
    return LayerMatrix(_as_matrix(numbers.value), _as_matrix(low), _as_matrix(high))


def _as_matrix(values: NDArray[np.float64]) -> Matrix:
    return tuple(tuple(finite_or_none(float(value)) for value in row) for row in values)
