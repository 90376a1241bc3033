"""Values of several metrics in the groups of one attribute, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from evenhand.errors import SHOWN
from evenhand.metrics.estimate import common_classes, estimate, why_undefined
from evenhand.metrics.estimates import EVERYBODY, Number, Parts
from evenhand.metrics.families import Family, family
from evenhand.metrics.registry import Floats, Metric, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.scored import Scored
from evenhand.wording import counted


@dataclass(frozen=True, eq=False)
class Values:
    """Values of metrics in groups, for the data and every resample.

    Attributes
    ----------
    parts
        The groups.
    metrics
        The metrics by name.
    table
        ``(groups, metrics, 1 + B + J)``, both in the order of ``parts`` and ``metrics``.
    resamples
        The patients that they are of.
    classes
        The classes that one-vs-rest means are taken over.
    """

    parts: Parts
    metrics: dict[str, Metric]
    table: Floats
    resamples: Resamples
    classes: tuple[int, ...]

    @cached_property
    def _place(self) -> dict[str, int]:
        """The row of each group in ``table``."""
        return {level: at for at, level in enumerate(self.parts.rows)}

    @cached_property
    def contrasts(self) -> dict[tuple[str, str], tuple[Number, ...]]:
        """The contrasts of a metric with the reference that were computed before, by name."""
        return {}

    def of(self, metric: str, levels: Sequence[str]) -> Family:
        """Return the values of a metric in some groups."""
        key = metric, tuple(levels)
        if key not in self._families:
            places = [self._place[level] for level in levels]
            self._families[key] = self._of_all(metric).take(places)
        return self._families[key]

    def _of_all(self, metric: str) -> Family:
        if metric not in self._whole:
            values = self.table[:, list(self.metrics).index(metric)]
            groups = {level: self._seen(metric, level) for level in self.parts.rows}
            self._whole[metric] = family(
                groups, self.metrics[metric], values, self.resamples, self.classes
            )
        return self._whole[metric]

    @cached_property
    def _whole(self) -> dict[str, Family]:
        """The values of each metric in all groups, kept like those of some."""
        return {}

    @cached_property
    def _families(self) -> dict[tuple[str, tuple[str, ...]], Family]:
        """Families by metric and levels, kept so that their errors are computed once."""
        return {}

    def reason(self, metric: str, levels: Sequence[str]) -> str | None:
        """Return why a number across some groups is undefined, or None."""
        if len(levels) < 2:
            return f"{counted(len(levels), 'group')} to compare; two are needed"
        whys = [(level, why) for level in levels if (why := self.why(metric, level))]
        told = [f"group {level!r}: {why}" for level, why in whys[:SHOWN]]
        more = [f"and {len(whys) - SHOWN:,} more groups"] if len(whys) > SHOWN else []
        return "; ".join([*told, *more]) or None

    def why(self, metric: str, level: str) -> str | None:
        """Return why a metric is undefined, or not claimed, in a group, or None."""
        small = self.parts.small.get(level)
        seen = self._seen(metric, level)
        return small or why_undefined(seen, self.metrics[metric], self.classes)

    def _seen(self, metric: str, level: str) -> Scored:
        return self.parts.seen(level, self.metrics[metric])

    def number(self, group: str, name: str, metric: str, values: Floats) -> Number:
        """Return a number about a group, or about all compared ones, made from a metric."""
        rows = self.parts.together if group == EVERYBODY else self.parts.rows[group]
        of = self.metrics[metric]
        threshold = rows.threshold if of.needs == "decision" else None
        note = _macro_note(rows, of, self.classes)
        return Number(self.parts.attribute, group, name, values, rows, threshold, None, note)


def values_of(
    parts: Parts,
    metrics: Sequence[str],
    resamples: Resamples,
    classes: tuple[int, ...] | None = None,
) -> Values:
    """Compute metrics in every group.

    Parameters
    ----------
    classes
        The classes that one-vs-rest means are taken over; by default those that every compared
        group has.
    """
    found = {name: find_metric(name) for name in metrics}
    if classes is None:
        compared = [parts.rows[level] for level in parts.compared]
        classes = common_classes(compared or [parts.together])
    table = np.full((len(parts.rows), len(found), resamples.count), np.nan)
    for view in dict.fromkeys(metric.view for metric in found.values()):
        alike = [metric for metric in found.values() if metric.view is view]
        seen = [parts.seen(level, alike[0]) for level in parts.rows]
        at = [place for place, metric in enumerate(found.values()) if metric.view is view]
        table[:, at] = estimate(seen, alike, resamples, classes)
    table[[level in parts.small for level in parts.rows]] = np.nan
    return Values(parts, found, table, resamples, classes)


def versus_rest(parts: Parts, which: int) -> Parts:
    """Return the same groups with the two-class problem "class ``which`` or another"."""
    rows = {level: of_level.versus_rest(which) for level, of_level in parts.rows.items()}
    together, source = parts.together.versus_rest(which), parts.source.versus_rest(which)
    return replace(parts, rows=rows, together=together, source=source)


def _macro_note(rows: Scored, metric: Metric, classes: Sequence[int]) -> str:
    """Name the classes that the mean over classes leaves out, because some group lacks them."""
    if rows.binary or metric.classes != "macro":
        return ""
    left_out = [name for which, name in enumerate(rows.classes) if which not in classes]
    return f"macro without {', '.join(left_out)} (not in every group)" if left_out else "macro"
