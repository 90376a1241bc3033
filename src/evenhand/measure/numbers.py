"""The numbers of one attribute: of each group, and across the groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evenhand.measure.across import SUMMARIES
from evenhand.measure.estimate import common_classes, estimate, why_undefined
from evenhand.measure.groups import Groups
from evenhand.measure.registry import Floats, Metric
from evenhand.measure.resample import Resamples
from evenhand.measure.scored import Scored

EVERYBODY = "*"


@dataclass(frozen=True, eq=False)
class Number:
    """One number before it is a row: its value in the data and in every resample.

    Attributes
    ----------
    attribute, group, metric
        What it is about; ``"*"`` is everybody, or a number across the groups.
    values
        ``(1 + B + J,)`` as in `Resamples`.
    rows
        The samples that it is computed from.
    threshold
        Where scores were cut into the decisions that it needs, or None.
    reason
        Why it is undefined, or None.
    note
        What else must be known about how it was made.
    """

    attribute: str
    group: str
    metric: str
    values: Floats
    rows: Scored
    threshold: float | None
    reason: str | None
    note: str

    def minus(self, other: Number) -> Number:
        """Return the same number as a difference from another model's."""
        return replace(
            self,
            values=self.values - other.values,
            threshold=None,
            reason=self.reason or other.reason,
        )


def numbers_of(
    rows: Scored,
    attribute: str,
    groups: Groups,
    compared: Sequence[str],
    asked: tuple[Sequence[Metric], Sequence[str]],
    resamples: Resamples,
) -> list[Number]:
    """Return the numbers of one attribute, groups first, then across the groups.

    Parameters
    ----------
    compared
        Levels that take part in what is said across groups.
    asked
        The metrics, and the names of the summaries across groups.
    """
    metrics, across = asked
    parts = {level: rows.take(groups.rows(level)) for level in groups.levels}
    classes = common_classes([parts[level] for level in compared])
    values = estimate(list(parts.values()), metrics, resamples, classes)
    found = [
        Number(
            attribute,
            level,
            metric.name,
            values[place, index],
            part,
            _threshold(part, metric),
            why_undefined(part, metric, classes),
            _macro_note(part, metric, classes),
        )
        for place, (level, part) in enumerate(parts.items())
        for index, metric in enumerate(metrics)
    ]
    together = rows.take(np.flatnonzero(np.isin(groups.codes, _codes(groups, compared))))
    for metric in metrics if across else ():
        members = [one for one in found if one.metric == metric.name and one.group in compared]
        found += [_across(members, metric, name, together) for name in across]
    return found


def _across(members: Sequence[Number], metric: Metric, summary: str, rows: Scored) -> Number:
    undefined = [f"group {one.group!r}: {one.reason}" for one in members if one.reason]
    if len(members) < 2:
        undefined = [f"{len(members)} group to compare; two are needed"]
    first = members[0]
    values = SUMMARIES[summary](np.stack([one.values for one in members]), metric)
    return Number(
        first.attribute,
        EVERYBODY,
        f"{metric.name}_{summary}",
        np.full_like(values, np.nan) if undefined else values,
        rows,
        _threshold(rows, metric),
        "; ".join(undefined) or None,
        first.note,
    )


def _threshold(rows: Scored, metric: Metric) -> float | None:
    return rows.threshold if metric.needs == "decision" else None


def _codes(groups: Groups, levels: Sequence[str]) -> list[int]:
    return [groups.levels.index(level) for level in levels]


def _macro_note(rows: Scored, metric: Metric, classes: Sequence[int]) -> str:
    """Name the classes that the mean over classes leaves out, because some group lacks them."""
    if rows.binary or metric.classes != "macro":
        return ""
    left_out = [name for which, name in enumerate(rows.classes) if which not in classes]
    return f"macro without {', '.join(left_out)} (not in every group)" if left_out else "macro"
