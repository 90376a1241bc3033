"""Values of several metrics in the groups of one attribute, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import SHOWN
from evenhand.metrics.estimate import common_classes, why_undefined
from evenhand.metrics.families import MetricFamily, metric_family
from evenhand.metrics.numbers import Parts, ResampledNumber
from evenhand.metrics.registry import Floats, Metric, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import EVERYBODY
from evenhand.metrics.scored import Scored
from evenhand.metrics.stream import Stream
from evenhand.wording import counted

NOBODY: NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, eq=False)
class GroupValues:
    """Values of metrics in groups, for the data and every resample.

    Attributes
    ----------
    parts
        The groups.
    metrics
        The metrics by name.
    tables
        By metric, ``(groups, 1 + B + J)`` in the order of ``parts``.
    resamples
        The patients that they are of.
    classes
        The classes that one-vs-rest means are taken over.
    """

    parts: Parts
    metrics: dict[str, Metric]
    tables: dict[str, Floats]
    resamples: Resamples
    classes: tuple[int, ...]

    @cached_property
    def _place(self) -> dict[str, int]:
        """The row of each group in a table."""
        return {level: place for place, level in enumerate(self.parts.rows)}

    @cached_property
    def contrasts(self) -> dict[tuple[str, str], tuple[ResampledNumber, ...]]:
        """The contrasts of a metric with the reference that were computed before, by name."""
        return {}

    def family_of(self, metric: str, levels: Sequence[str]) -> MetricFamily:
        """Return the values of a metric in some groups."""
        key = metric, tuple(levels)
        if key not in self._families:
            places = [self._place[level] for level in levels]
            self._families[key] = self._of_all(metric).take(places)
        return self._families[key]

    def _of_all(self, metric: str) -> MetricFamily:
        if metric not in self._whole:
            values = self.tables[metric]
            groups = {level: self._seen(metric, level) for level in self.parts.rows}
            self._whole[metric] = metric_family(
                groups, self.metrics[metric], values, self.resamples, self.classes
            )
        return self._whole[metric]

    @cached_property
    def _whole(self) -> dict[str, MetricFamily]:
        """The values of each metric in all groups, kept like those of some."""
        return {}

    @cached_property
    def _families(self) -> dict[tuple[str, tuple[str, ...]], MetricFamily]:
        """Families by metric and levels, kept so that their errors are computed once."""
        return {}

    def reason(self, metric: str, levels: Sequence[str]) -> str | None:
        """Return why a number across some groups is undefined, or None."""
        if len(levels) < 2:
            return f"{counted(len(levels), 'group')} to compare; two are needed"
        whys = [(level, why) for level in levels if (why := self.why(metric, level))]
        reasons = [f"group {level!r}: {why}" for level, why in whys[:SHOWN]]
        more = [f"and {len(whys) - SHOWN:,} more groups"] if len(whys) > SHOWN else []
        return "; ".join([*reasons, *more]) or None

    def why(self, metric: str, level: str) -> str | None:
        """Return why a metric is undefined, or not claimed, in a group, or None."""
        key = metric, level
        if key not in self._whys:
            small, seen = self.parts.small.get(level), self._seen(metric, level)
            self._whys[key] = small or why_undefined(seen, self.metrics[metric], self.classes)
        return self._whys[key]

    @cached_property
    def _whys(self) -> dict[tuple[str, str], str | None]:
        """Why a metric is undefined in a group, by metric and level."""
        return {}

    def _seen(self, metric: str, level: str) -> Scored:
        return self.parts.seen(level, self.metrics[metric])

    def number(
        self, group: str, name: str, aggregate: str | None, values: Floats, **about: Any
    ) -> ResampledNumber:
        """Return a number about a group, or about all compared ones, made from a metric.

        ``about`` are further fields of it.
        """
        rows = self.parts.together if group == EVERYBODY else self.parts.rows[group]
        metric = self.metrics[name]
        threshold = rows.threshold if metric.needs == "decision" else None
        note = _macro_note(rows, metric, self.classes)
        attribute = self.parts.attribute
        return ResampledNumber(
            attribute, group, metric, values, rows, aggregate, threshold, note=note, **about
        )


def request_values(
    parts: Parts,
    metrics: Sequence[str],
    stream: Stream,
    classes: tuple[int, ...] | None = None,
) -> GroupValues:
    """Ask a stream for metrics in every group; when it has run, the values are there.

    Parameters
    ----------
    classes
        The classes that one-vs-rest means are taken over; by default those that every compared
        group has.
    """
    by_name = {name: find_metric(name) for name in metrics}
    if classes is None:
        compared = [parts.rows[level] for level in parts.compared]
        classes = common_classes(compared or [parts.together])
    tables: dict[str, Floats] = {}
    for view in dict.fromkeys(metric.view for metric in by_name.values()):
        alike = {name: metric for name, metric in by_name.items() if metric.view is view}
        seen = [
            NOBODY if level in parts.small else parts.places_seen(level, next(iter(alike.values())))
            for level in parts.rows
        ]
        table = stream.add(parts.source, seen, list(alike.values()), classes)
        tables |= {name: table[:, column] for column, name in enumerate(alike)}
    return GroupValues(parts, by_name, tables, stream.resamples, classes)


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
