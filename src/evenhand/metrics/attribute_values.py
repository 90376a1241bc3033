"""Values of several metrics in the groups of one attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import SHOWN, count_text
from evenhand.metrics.estimate import common_classes, why_undefined
from evenhand.metrics.families import MetricFamily, metric_family
from evenhand.metrics.numbers import Parts, ResampledNumber
from evenhand.metrics.registry import Floats, Metric, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import EVERYBODY
from evenhand.metrics.scored import Scored
from evenhand.metrics.stream import Stream

NOBODY: NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, eq=False)
class GroupValues:
    """Values of metrics in groups, in the data and in every resample.

    Attributes
    ----------
    parts
        The samples of the groups.
    metrics
        The metrics by name.
    tables
        By name of the metric: its values, ``(groups, 1 + B + J)``, in the order of ``parts.rows``.
    resamples
        The resamples that the values belong to.
    classes
        The classes that one-vs-rest means are taken over.
    """

    parts: Parts
    metrics: dict[str, Metric]
    tables: dict[str, Floats]
    resamples: Resamples
    classes: tuple[int, ...]

    @cached_property
    def _index_of(self) -> dict[str, int]:
        """The row of each group in a table."""
        return {level: index for index, level in enumerate(self.parts.rows)}

    @cached_property
    def contrasts(self) -> dict[tuple[str, str], tuple[ResampledNumber, ...]]:
        """Contrasts with the reference that were computed before, by metric and contrast."""
        return {}

    def family_of(self, metric: str, levels: Sequence[str]) -> MetricFamily:
        """Return the values of a metric in some groups."""
        key = metric, tuple(levels)
        if key not in self._families:
            indices = [self._index_of[level] for level in levels]
            self._families[key] = self._all_groups(metric).take(indices)
        return self._families[key]

    def _all_groups(self, metric: str) -> MetricFamily:
        """Return the values of a metric in all groups."""
        if metric not in self._complete_families:
            values = self.tables[metric]
            groups = {level: self._samples(metric, level) for level in self.parts.rows}
            self._complete_families[metric] = metric_family(
                groups, self.metrics[metric], values, self.resamples, self.classes
            )
        return self._complete_families[metric]

    @cached_property
    def _complete_families(self) -> dict[str, MetricFamily]:
        """Families of all groups, by metric; kept so that their errors are computed once."""
        return {}

    @cached_property
    def _families(self) -> dict[tuple[str, tuple[str, ...]], MetricFamily]:
        """Families of some groups, by metric and levels; kept for the same reason."""
        return {}

    def reason(self, metric: str, levels: Sequence[str]) -> str | None:
        """Return why a number across some groups is undefined, in words, or None."""
        if len(levels) < 2:
            return f"{count_text(len(levels), 'group')} to compare; two are needed"
        reasons = [
            f"group {level!r}: {reason}"
            for level in levels
            if (reason := self.why_undefined_in(level, metric))
        ]
        more = [f"and {len(reasons) - SHOWN:,} more groups"] if len(reasons) > SHOWN else []
        return "; ".join([*reasons[:SHOWN], *more]) or None

    def why_undefined_in(self, level: str, metric: str) -> str | None:
        """Return why a metric is undefined in a group, or the group too small, or None."""
        key = metric, level
        if key not in self._reasons:
            small, samples = self.parts.small.get(level), self._samples(metric, level)
            self._reasons[key] = small or why_undefined(samples, self.metrics[metric], self.classes)
        return self._reasons[key]

    @cached_property
    def _reasons(self) -> dict[tuple[str, str], str | None]:
        """The results of `why_undefined_in`, by metric and level."""
        return {}

    def _samples(self, metric: str, level: str) -> Scored:
        """Return the samples that a metric of a group uses."""
        return self.parts.used_by(level, self.metrics[metric])

    def number(
        self, group: str, name: str, aggregate: str | None, values: Floats, **fields: Any
    ) -> ResampledNumber:
        """Return a number of a metric about a group, or about all compared groups (``"*"``).

        Parameters
        ----------
        group, name, aggregate, values
            The group, the name of the metric, the aggregate and the values of the number.
        **fields
            Further fields of `ResampledNumber`.
        """
        rows = self.parts.together if group == EVERYBODY else self.parts.rows[group]
        metric = self.metrics[name]
        threshold = rows.threshold if metric.needs == "decision" else None
        note = _macro_note(rows, metric, self.classes)
        attribute = self.parts.attribute
        return ResampledNumber(
            attribute, group, metric, values, rows, aggregate, threshold, note=note, **fields
        )


def request_values(
    parts: Parts,
    metrics: Sequence[str],
    stream: Stream,
    classes: tuple[int, ...] | None = None,
) -> GroupValues:
    """Request metrics in every group from a stream, which fills the values when it runs.

    Parameters
    ----------
    parts
        The samples of the groups.
    metrics
        Names of the metrics.
    stream
        Computes the values.
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
        of_view = {name: metric for name, metric in by_name.items() if metric.view is view}
        example = next(iter(of_view.values()))
        positions = [
            NOBODY if level in parts.small else parts.positions_used(level, example)
            for level in parts.rows
        ]
        table = stream.add(parts.source, positions, list(of_view.values()), classes)
        tables |= {name: table[:, column] for column, name in enumerate(of_view)}
    return GroupValues(parts, by_name, tables, stream.resamples, classes)


def versus_rest(parts: Parts, index: int) -> Parts:
    """Return the groups with the two-class problem of a class (by its index) against the others."""
    rows = {level: samples.versus_rest(index) for level, samples in parts.rows.items()}
    together, source = parts.together.versus_rest(index), parts.source.versus_rest(index)
    return replace(parts, rows=rows, together=together, source=source)


def _macro_note(rows: Scored, metric: Metric, classes: Sequence[int]) -> str:
    """Return a note that names the classes that the mean leaves out, because a group lacks them."""
    if rows.binary or metric.classes != "macro":
        return ""
    left_out = [name for index, name in enumerate(rows.classes) if index not in classes]
    return f"macro without {', '.join(left_out)} (not in every group)" if left_out else "macro"
