"""Numbers with their values in every resample, and the samples of one attribute's groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import count_text
from evenhand.metrics.fairness import Fairness
from evenhand.metrics.families import MetricFamily, join_families
from evenhand.metrics.groups import Groups
from evenhand.metrics.registry import Floats, Metric
from evenhand.metrics.rows import EVERYBODY, Key, full_name, join_notes
from evenhand.metrics.scored import Scored

Composition = Literal[
    "one", "difference", "spread", "spreads", "lowest", "highest", "other", "point"
]

ANYWHERE = (-math.inf, math.inf)
UNIT = (0.0, 1.0)
BIASED = "biased where groups are close"
"""Note on a number that is the largest of several differences and has a percentile interval."""


@dataclass(frozen=True, eq=False)
class ResampledNumber:
    """A number with its values in every resample; its interval is not computed yet.

    Attributes
    ----------
    attribute, group
        The attribute and the group; ``"*"`` is everybody, or a number across the groups.
    base, aggregate
        The metric or fairness metric, and how groups become one number (None: the metric itself).
    values
        ``(1 + B + J,)`` as in `Resamples`.
    rows
        The samples that it is computed from.
    threshold
        The score at and above which class 1 is decided, where the number needs decisions, or None.
    reason, no_interval
        Why it is undefined, and why it has no interval; None where there is no such reason.
    reference
        The reference group of a signed difference or ratio, or None.
    note
        A remark on how it was computed.
    family, composition
        The values of groups that it is computed from, and how: ``"one"`` is one of these values,
        ``"difference"`` the first less the second, ``"spread"`` the largest difference of any two,
        ``"spreads"`` the spread of one model less that of another, ``"lowest"`` and ``"highest"``
        an extreme value (with two families: that of one model less that of the other),
        ``"other"`` anything else. ``"point"`` has no interval.
    bounds
        The least and the largest possible value; the interval stays within them.
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
        """Its identity among the numbers of a model."""
        return Key(self.attribute, self.group, self.base.name, self.aggregate)

    @property
    def metric(self) -> str:
        """The full name, as in ``auc_gap``."""
        return full_name(self.base.name, self.aggregate)

    def minus(self, other: ResampledNumber) -> ResampledNumber:
        """Return this number less the same number of another model."""
        difference = replace(
            self,
            values=self.values - other.values,
            threshold=None,
            reason=self.reason or other.reason,
            family=(*self.family, *other.family),
            bounds=(self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]),
        )
        if self.composition == "one":
            pair = join_families(self.family[0], other.family[0], paired=True)
            return replace(difference, family=(pair,), composition="difference")
        if self.composition == "spread":
            return replace(difference, composition="spreads")
        if self.composition in ("lowest", "highest"):
            return with_note(difference, BIASED)
        if self.composition == "difference":
            return replace(difference, composition="other")
        return difference


@dataclass(frozen=True, eq=False)
class Parts:
    """The samples of one attribute's groups, and which of them are compared.

    Attributes
    ----------
    attribute
        The name of the attribute.
    rows
        The samples of each level that is shown.
    compared
        The levels that take part in comparisons across groups.
    together
        The samples of all compared levels.
    reference
        The level that signed differences are taken from; None where no level is compared.
    small
        By level with too few samples: why no claim is made about it.
    source, positions
        All samples, and by level the positions of its samples among them.
    """

    attribute: str
    rows: Mapping[str, Scored]
    compared: tuple[str, ...]
    together: Scored
    reference: str | None
    small: Mapping[str, str]
    source: Scored
    positions: Mapping[str, NDArray[np.intp]]

    def used_by(self, level: str, metric: Metric) -> Scored:
        """Return the samples that a metric of a level uses.

        For a metric without a view they are the samples of the level. A view chooses them from the
        samples of the level and of all compared levels.
        """
        if metric.view is None:
            return self.rows[level]
        return self.source.take(self.positions_used(level, metric))

    def positions_used(self, level: str, metric: Metric) -> NDArray[np.intp]:
        """Return the positions of the samples that a metric of a level uses."""
        if metric.view is None:
            return self.positions[level]
        in_level, in_any = (np.zeros(len(self.source), dtype=np.bool_) for _ in range(2))
        in_level[self.positions[level]] = True
        in_any[np.concatenate([self.positions[name] for name in (level, *self.compared)])] = True
        return np.flatnonzero(in_any & metric.view(self.source.labels == 1, in_level))


def with_note(number: ResampledNumber, note: str) -> ResampledNumber:
    """Return the number with one more note on how it was computed."""
    return replace(number, note=join_notes(number.note, note) or "")


def undivided_samples(rows: Scored) -> Parts:
    """Return all samples as a single group, ``"*"``."""
    positions = {EVERYBODY: np.arange(len(rows))}
    return Parts(EVERYBODY, {EVERYBODY: rows}, (), rows, None, {}, rows, positions)


def all_compared(parts: Parts) -> Parts:
    """Return the samples of all compared groups as a single group, ``"*"``."""
    members = np.sort(np.concatenate([parts.positions[level] for level in parts.compared]))
    return replace(
        parts, rows={EVERYBODY: parts.together}, compared=(), positions={EVERYBODY: members}
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
    """Divide samples into the groups of an attribute.

    Parameters
    ----------
    rows, attribute, groups
        The samples, the name of the attribute, and the level of each sample.
    compared
        The levels to compare; levels with fewer samples than ``minimum`` are not compared.
    reference
        The reference level; by default the compared level with the most samples.
    minimum
        The number of samples that a level needs for a claim.
    """
    positions = {level: groups.rows(level) for level in groups.levels}
    parts = {level: rows.take(members) for level, members in positions.items()}
    small = {
        level: f"{count_text(len(part), 'sample')}, fewer than the {minimum} that a claim needs"
        for level, part in parts.items()
        if len(part) < minimum
    }
    compared_levels = tuple(level for level in compared if level not in small)
    code = {level: index for index, level in enumerate(groups.levels)}
    codes = [code[level] for level in compared_levels]
    compared_at = np.flatnonzero(np.isin(groups.codes, codes))
    together = rows if len(compared_at) == len(rows) else rows.take(compared_at)
    largest = max(compared_levels, key=lambda level: len(parts[level]), default=None)
    reference = reference or largest
    return Parts(attribute, parts, compared_levels, together, reference, small, rows, positions)
