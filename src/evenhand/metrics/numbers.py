"""Numbers before they are rows: values in the data and in every resample, samples, reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.fairness import Fairness
from evenhand.metrics.families import MetricFamily, beside
from evenhand.metrics.groups import Groups
from evenhand.metrics.registry import Floats, Metric
from evenhand.metrics.rows import EVERYBODY, Key, full_name, joined
from evenhand.metrics.scored import Scored
from evenhand.wording import counted

Composition = Literal[
    "one", "difference", "spread", "spreads", "lowest", "highest", "other", "point"
]

ANYWHERE = (-math.inf, math.inf)
UNIT = (0.0, 1.0)
BIASED = "biased where groups are close"
"""Said of a number that picks the largest of several differences and has no other interval."""


@dataclass(frozen=True, eq=False)
class ResampledNumber:
    """One number before it is a row.

    Attributes
    ----------
    attribute, group
        What it is about; ``"*"`` is everybody, or a number across the groups.
    base, aggregate
        The metric (or named fairness metric), and what is taken of it across groups; None: itself.
    values
        ``(1 + B + J,)`` as in `Resamples`.
    rows
        The samples that it is computed from.
    threshold
        Where scores were cut into the decisions that it needs, or None.
    reason, no_interval
        Why it is undefined, or has no interval, or None.
    reference
        The group that it is a signed difference or ratio from, or None.
    note
        A remark on how it was computed.
    family, composition
        The values of groups that it is computed from, and how: ``"one"`` is such a value itself,
        ``"difference"`` the first less the second, ``"spread"`` the largest difference of any two,
        ``"spreads"`` that of one model less that of another,
        ``"lowest"`` and ``"highest"`` an extreme value (with two families: that of one model less
        that of the other), ``"other"`` anything else. ``"point"`` has no interval.
    bounds
        What it cannot be below or above, which its interval keeps to.
    """

    attribute: str
    group: str
    base: Metric | Fairness
    values: Floats
    rows: Scored
    aggregate: str | None = None
    threshold: float | None = None
    reason: str | None = None
    no_interval: str | None = None
    reference: str | None = None
    note: str = ""
    family: tuple[MetricFamily, ...] = ()
    composition: Composition = "other"
    bounds: tuple[float, float] = ANYWHERE

    @property
    def key(self) -> Key:
        """What it is about."""
        return Key(self.attribute, self.group, self.base.name, self.aggregate)

    @property
    def metric(self) -> str:
        """The full name, as in ``auc_gap``."""
        return full_name(self.base.name, self.aggregate)

    def minus(self, other: ResampledNumber) -> ResampledNumber:
        """Return the same number as a difference from another model's."""
        less = replace(
            self,
            values=self.values - other.values,
            threshold=None,
            reason=self.reason or other.reason,
            family=(*self.family, *other.family),
            bounds=(self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]),
        )
        if self.composition == "one":
            both = beside(self.family[0], other.family[0], paired=True)
            return replace(less, family=(both,), composition="difference")
        if self.composition == "spread":
            return replace(less, composition="spreads")
        if self.composition in ("lowest", "highest"):
            return with_note(less, BIASED)
        return replace(less, composition="other") if self.composition == "difference" else less


@dataclass(frozen=True, eq=False)
class Parts:
    """The samples of one attribute's groups, and which of them are compared.

    Attributes
    ----------
    attribute
        Its name.
    rows
        The samples of each level that is shown.
    compared
        Levels that take part in what is said across groups.
    together
        The samples of all levels that are compared.
    reference
        The level that signed differences are taken from; None where none is compared.
    small
        Why a level makes no claim, for those with too few samples.
    source, places
        All samples, and the positions in them of each level's.
    """

    attribute: str
    rows: Mapping[str, Scored]
    compared: tuple[str, ...]
    together: Scored
    reference: str | None
    small: Mapping[str, str]
    source: Scored
    places: Mapping[str, NDArray[np.intp]]

    def seen(self, level: str, metric: Metric) -> Scored:
        """Return the samples that a metric of a level uses.

        These are the level's own. For a metric with a view they are chosen by the view from the
        samples of the level and of all compared levels.
        """
        if metric.view is None:
            return self.rows[level]
        return self.source.take(self.places_seen(level, metric))

    def places_seen(self, level: str, metric: Metric) -> NDArray[np.intp]:
        """Return the positions of the samples that a metric of a level uses."""
        if metric.view is None:
            return self.places[level]
        own, everybody = (np.zeros(len(self.source), dtype=np.bool_) for _ in range(2))
        own[self.places[level]] = True
        everybody[np.concatenate([self.places[each] for each in (level, *self.compared)])] = True
        return np.flatnonzero(everybody & metric.view(self.source.labels == 1, own))


def with_note(number: ResampledNumber, note: str) -> ResampledNumber:
    """Return the number with one more thing that must be known about how it was made."""
    return replace(number, note=joined(number.note, note) or "")


def undivided_samples(rows: Scored) -> Parts:
    """Return all samples as the one group ``"*"``."""
    everything = {EVERYBODY: np.arange(len(rows))}
    return Parts(EVERYBODY, {EVERYBODY: rows}, (), rows, None, {}, rows, everything)


def all_compared(parts: Parts) -> Parts:
    """Return the samples of all compared groups as the one group ``"*"``."""
    members = np.sort(np.concatenate([parts.places[level] for level in parts.compared]))
    return replace(
        parts, rows={EVERYBODY: parts.together}, compared=(), places={EVERYBODY: members}
    )


def divide_samples(
    rows: Scored,
    attribute: str,
    groups: Groups,
    compared: Sequence[str],
    *,
    reference: str | None = None,
    minimum: int = 0,
) -> Parts:
    """Divide samples into groups.

    Parameters
    ----------
    compared
        Levels to be compared, unless they have fewer samples than ``minimum``.
    reference
        By default the compared level with the most samples.
    """
    places = {level: groups.rows(level) for level in groups.levels}
    parts = {level: rows.take(members) for level, members in places.items()}
    small = {
        level: f"{counted(len(part), 'sample')}, fewer than the {minimum} that a claim needs"
        for level, part in parts.items()
        if len(part) < minimum
    }
    kept = tuple(level for level in compared if level not in small)
    code = {level: number for number, level in enumerate(groups.levels)}
    codes = [code[level] for level in kept]
    compared_at = np.flatnonzero(np.isin(groups.codes, codes))
    together = rows if len(compared_at) == len(rows) else rows.take(compared_at)
    largest = max(kept, key=lambda level: len(parts[level]), default=None)
    reference = reference or largest
    return Parts(attribute, parts, kept, together, reference, small, rows, places)
