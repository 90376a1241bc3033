"""Claims of a report: the metrics and the rows that verdicts rest on, and their differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.contrasts import (
    Contrasts,
    Side,
    all_pairs,
    constant_side,
    contrast,
    pair_index,
    sides,
)
from evenhand.metrics.fairness import Fairness
from evenhand.metrics.families import MetricFamily
from evenhand.metrics.numbers import ResampledNumber
from evenhand.metrics.registry import Floats, find_metric, is_metric
from evenhand.metrics.rows import EVERYBODY, Key, MetricRow
from evenhand.metrics.spreads import compare_spreads

FIRST = ("sensitivity", "auc", "accuracy")
"""The metrics that a headline tries first, in this order, if AUC was requested first."""

BESIDE = ("auc", "specificity")
"""The metrics that verdicts are about in addition to the headline's metric."""


def headline_order(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return metrics in the order in which a page tries them for its headline about groups.

    If AUC was requested first, sensitivity comes before it, because sensitivity counts cases.
    Otherwise the order is that of the request. Metrics without intervals come last, because they
    cannot be tested.

    Examples
    --------
    >>> headline_order(["auc", "sensitivity", "brier"]), headline_order(["brier", "auc"])
    (('sensitivity', 'auc', 'brier'), ('brier', 'auc'))
    >>> headline_order(["ece", "brier"])
    ('brier', 'ece')
    """
    first = [name for name in FIRST if name in metrics] if metrics[0] == "auc" else []
    order = dict.fromkeys((*first, *metrics))
    return tuple(sorted(order, key=lambda name: not has_interval(name)))


def leading_metric(metrics: Sequence[str]) -> str:
    """Return the metric that models are compared by: AUC, else the first with a direction."""
    judging = sorted(filter(has_better, metrics), key=lambda name: not has_interval(name))
    return "auc" if "auc" in judging or not judging else judging[0]


def has_interval(metric: str) -> bool:
    """Return whether a metric has an interval, so that claims about it can be tested.

    The expected calibration error has none: chance raises it, and more so in smaller groups.
    """
    return not is_metric(metric) or find_metric(metric).no_interval is None


def has_better(metric: str) -> bool:
    """Return whether higher or lower values of a metric are better."""
    return is_metric(metric) and find_metric(metric).direction in ("higher", "lower")


CLAIM = 0.05
"""The largest corrected p-value at which a difference is claimed."""

CHANCE = 0.5
"""The AUC of a model that ranks at random."""

ONLY_DIFFERENCE: NDArray[np.intp] = np.zeros(1, dtype=np.intp)
"""The index of the difference of a claim about one difference."""


@dataclass(frozen=True, eq=False)
class Claim:
    """A row that a report may claim to differ from 0 (for an AUC, from chance).

    Attributes
    ----------
    key
        Identifies the row.
    contrasts, indices
        A set of differences, and the indices ``(k,)`` of the differences behind the row.
    combine
        Returns the p-value of the row, given the corrected p-values ``(k,)`` of its differences.
    """

    key: Key
    contrasts: Contrasts
    indices: NDArray[np.intp]
    combine: Callable[[Floats], float]


class ClaimFinder:
    """Finds the claims among the numbers of one model, or of the difference of two models.

    Parameters
    ----------
    numbers, rows
        The numbers, and their metric rows by key.
    replicates
        The number of resamples of the patients.
    """

    def __init__(
        self, numbers: Sequence[ResampledNumber], rows: Mapping[Key, MetricRow], replicates: int
    ) -> None:
        self.numbers = {number.key: number for number in numbers}
        self.approximate = {key for key, row in rows.items() if row.approximate is not None}
        self.replicates = replicates

    def between_groups(self, attribute: str, metrics: Sequence[str]) -> Iterator[Claim]:
        """Yield an attribute's gaps and its differences from the reference, in headline metrics."""
        for metric in self._headline_metrics(attribute, metrics):
            gap = Key(attribute, EVERYBODY, metric, "gap")
            if gap not in self.numbers or self.numbers[gap].reason:
                continue
            sides = self._sides(self.numbers[gap].family[0], attribute, metric)
            pairs = all_pairs(sides)
            if not len(pairs):
                continue
            yield Claim(gap, pairs, np.arange(len(pairs)), _smallest)
            yield from self._from_reference(attribute, metric, pairs)

    def against_chance(self) -> Iterator[Claim]:
        """Yield the claim that everybody's AUC differs from chance."""
        key = Key(EVERYBODY, EVERYBODY, "auc")
        if key in self.numbers and not self.numbers[key].reason:
            for auc in self._sides(self.numbers[key].family[0], EVERYBODY, "auc"):
                difference = contrast(auc, constant_side("chance", auc, CHANCE))
                yield Claim(key, difference, ONLY_DIFFERENCE, _smallest)

    def between_models(self, attributes: Sequence[str], metrics: Sequence[str]) -> Iterator[Claim]:
        """Yield the differences between two models in some metrics.

        For each metric: for everybody, for each group, and for the worst groups.
        """
        for metric in metrics:
            key = Key(EVERYBODY, EVERYBODY, metric)
            if key not in self.numbers or self.numbers[key].reason or not has_interval(metric):
                continue
            models = self._sides(self.numbers[key].family[0], EVERYBODY, metric)
            if len(models) == 2:
                yield Claim(key, contrast(*models), ONLY_DIFFERENCE, _smallest)
            for attribute in attributes:
                yield from self._between_models_by(attribute, metric)

    def between_spreads(self, names: Sequence[str]) -> Iterator[Claim]:
        """Yield the differences between two models in their spreads across groups."""
        for key, number in self.numbers.items():
            if number.metric not in names or number.reason or key in self.approximate:
                continue
            metrics = number.base.metrics if isinstance(number.base, Fairness) else (key.base,)
            if len(number.family) != 2 * len(metrics):
                continue
            values = [
                sides(
                    family, family.patients.tolist(), self.replicates, share=find_metric(name).share
                )
                for family, name in zip(number.family, 2 * metrics, strict=True)
            ]
            comparison = compare_spreads(values[: len(metrics)], values[len(metrics) :])
            if comparison is not None:
                yield Claim(key, comparison.contrasts, comparison.indices, comparison.p_value)

    def _between_models_by(self, attribute: str, metric: str) -> Iterator[Claim]:
        """Yield the differences between two models in each group, and in the worst groups."""
        summary = self._across(attribute, metric)
        if summary is None:
            return
        by_model = [
            {side.group: side for side in self._sides(family, attribute, metric)}
            for family in summary.family
        ]
        names = [name for name in by_model[0] if name in by_model[1]]
        new, reference = ([sides_of[name] for name in names] for sides_of in by_model)
        worst = Key(attribute, EVERYBODY, metric, "worst")
        crossed = worst in self.numbers and 0 < len(new) == len(summary.family[0].names)
        groups, count = np.arange(len(new), dtype=np.int32), len(new)
        first = np.repeat(groups, count) if crossed else groups
        second = np.tile(groups, count) if crossed else groups
        contrasts = Contrasts((*new, *reference), first, second + count)
        for index, side in enumerate(new):
            own = np.array([index * count + index if crossed else index])
            yield Claim(Key(attribute, side.group, metric), contrasts, own, _smallest)
        if crossed:
            sign = -1 if find_metric(metric).direction == "lower" else 1
            better = sign * np.sign(contrasts.values()).reshape(count, count)
            indices = np.arange(len(contrasts))
            yield Claim(worst, contrasts, indices, partial(_worst, better=better))

    def _across(self, attribute: str, metric: str) -> ResampledNumber | None:
        """Return a number across groups that holds the values of every group, or None."""
        keys = (Key(attribute, EVERYBODY, metric, name) for name in ("worst", "gap", "best"))
        present = [self.numbers[key] for key in keys if key in self.numbers]
        return next(
            (number for number in present if len(number.family) == 2 and not number.reason), None
        )

    def _from_reference(self, attribute: str, metric: str, pairs: Contrasts) -> Iterator[Claim]:
        """Yield the claims about the signed differences from the reference that have a row."""
        index_of = {side.group: index for index, side in enumerate(pairs.sides)}
        for key, number in self.numbers.items():
            if (key.attribute, key.base, key.aggregate) != (attribute, metric, "difference"):
                continue
            first, other = index_of.get(number.group), index_of.get(number.reference or "")
            if first is not None and other is not None:
                pair = pair_index(first, other, len(index_of))
                yield Claim(key, pairs, np.array([pair]), _smallest)

    def _headline_metrics(self, attribute: str, metrics: Sequence[str]) -> tuple[str, ...]:
        """Return the headline metric (the first in which groups differ), then `BESIDE`."""
        judging = [name for name in metrics if has_better(name) and has_interval(name)]
        if not judging:
            return ()
        order = [name for name in headline_order(metrics) if name in judging]
        first = next((name for name in order if self._varies(attribute, name)), order[0])
        return tuple(dict.fromkeys((first, *(name for name in BESIDE if name in judging))))

    def _varies(self, attribute: str, metric: str) -> bool:
        """Return whether the compared groups have at least two different values."""
        gap = self.numbers.get(Key(attribute, EVERYBODY, metric, "gap"))
        if gap is None:
            return False
        values = gap.family[0].values[:, 0]
        return len(set(values[~np.isnan(values)].tolist())) > 1

    def _sides(self, family: MetricFamily, attribute: str, metric: str) -> list[Side]:
        """Return the groups of a family that can be tested: neither unusable nor approximate."""
        keys = {name: Key(attribute, name, metric) for name in family.names}
        counts = [len(self.numbers[keys[name]].rows.members) for name in family.names]
        share = find_metric(metric).share
        all_sides = sides(family, counts, self.replicates, share=share)
        return [
            side for side in all_sides if side.usable and keys[side.group] not in self.approximate
        ]


def _smallest(p: Floats) -> float:
    """Return the smallest corrected p-value, which is that of "there is no difference"."""
    return float(np.nanmin(p)) if not np.isnan(p).all() else np.nan


def _worst(p: Floats, better: Floats) -> float:
    """Return the p-value of "the worst groups of both models have equal values".

    Parameters
    ----------
    p
        ``(G * G,)``, for each group under the first model minus each group under the second.
    better
        ``(G, G)``, the sign of each difference: 1 where the first model's value is the better one.

    Notes
    -----
    The first model's worst group is served better if *each* of its groups is served better than
    *some* group of the second model. The p-value of this statement is the largest, over the first
    model's groups, of the smallest p-value over the second model's groups (union of intersections;
    Berger, Technometrics 1982). The worst group itself need not be identified.
    """
    defined = np.where(np.isnan(p), 1.0, p).reshape(better.shape)
    up = np.where(better > 0, defined, 1.0).min(axis=1).max()
    down = np.where(better < 0, defined, 1.0).min(axis=0).max()
    return float(min(up, down))
