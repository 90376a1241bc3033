"""Values of metrics on groups, for the data and for every resample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import count_text
from evenhand.metrics.groups import Groups
from evenhand.metrics.registry import Floats, Metric, Requirement
from evenhand.metrics.resample import Resamples, as_resamples
from evenhand.metrics.scored import Scored
from evenhand.metrics.stream import Stream


def estimate(
    groups: Sequence[Scored],
    metrics: Sequence[Metric],
    resamples: Resamples,
    classes: Sequence[int],
) -> Floats:
    """Return values ``(groups, metrics, 1 + B + J)``, NaN where a metric is undefined.

    Parameters
    ----------
    groups
        The rows of each group; a group may be empty.
    metrics
        The metrics to compute.
    resamples
        The data, B resamples and J leave-outs of the patients.
    classes
        The classes that one-vs-rest means are taken over (see `common_classes`).
    """
    stream = Stream(resamples)
    values = [stream.add(rows, [np.arange(len(rows))], metrics, classes) for rows in groups]
    stream.run()
    empty = np.empty((0, len(metrics), resamples.count))
    return np.concatenate(values) if values else empty


def point(rows: Scored, metric: Metric, classes: Sequence[int]) -> float:
    """Return the value of a metric on the rows as they are, NaN where it is undefined."""
    if not len(rows):
        return math.nan
    data_only = as_resamples(np.ones((1, len(rows.members)), dtype=np.uint8))
    renumbered = replace(rows, members=np.arange(len(rows.members)))
    return float(estimate([renumbered], [metric], data_only, classes)[0, 0, 0])


def points_by_level(
    rows: Scored, groups: Groups, levels: Sequence[str], metric: Metric
) -> dict[str, float]:
    """Return the value of a metric on the rows of each level, NaN where it is undefined."""
    parts = {level: rows.take(groups.rows(level)) for level in levels}
    classes = (1,) if rows.binary else common_classes(list(parts.values()))
    return {level: point(part, metric, classes) for level, part in parts.items()}


def common_classes(groups: Sequence[Scored]) -> tuple[int, ...]:
    """Return the classes of which every group has rows, and rows of other classes beside them.

    One-vs-rest means are taken over these classes.
    """
    n_classes = len(groups[0].classes) if groups else 0

    def is_defined(rows: Scored, class_index: int) -> bool:
        count = int(np.count_nonzero(rows.labels == class_index))
        return 0 < count < len(rows)

    return tuple(c for c in range(n_classes) if all(is_defined(rows, c) for rows in groups))


def why_undefined(rows: Scored, metric: Metric, classes: Sequence[int]) -> str | None:
    """Return why a metric is undefined on some rows, with counts, or None where it is defined."""
    if not len(rows):
        return "no samples"
    if rows.binary:
        return _missing_rows(rows, metric.requires)
    if metric.classes == "two":
        return f"defined for two classes only; there are {len(rows.classes)}"
    if metric.classes == "any":
        return None
    if not classes:
        return "no class has samples, beside samples of other classes, in every group"
    for class_index in classes:
        missing = _missing_rows(rows.versus_rest(class_index), metric.requires)
        if missing:
            return f"class {rows.classes[class_index]!r}: {missing}"
    return None


def patients_behind(rows: Scored, metric: Metric, classes: Sequence[int]) -> int:
    """Return the number of patients who have the rows that a metric requires.

    If the metric requires several kinds of rows, or is a mean over classes, this is the smallest of
    the numbers. If it requires none, it is the number of all patients.
    """
    if not rows.binary and metric.classes == "macro":
        counts = (patients_behind(rows.versus_rest(c), metric, (1,)) for c in classes)
        return min(counts, default=0)
    if not metric.requires:
        return len(rows.members)
    return min(_patients(rows, kind) for kind in metric.requires)


def _patients(rows: Scored, kind: Requirement) -> int:
    """Return the number of patients who have rows of a kind."""
    counts = np.bincount(rows.patients[_is_kind(rows, kind)], minlength=len(rows.members))
    return int(np.count_nonzero(counts))


def _is_kind(rows: Scored, kind: Requirement) -> NDArray[np.bool_]:
    """Return the mask ``(n,)`` of the rows of a kind."""
    classes = rows.labels if kind in ("positives", "negatives") else rows.decisions
    mask: NDArray[np.bool_] = classes == (kind in ("positives", "flagged"))
    return mask


def _missing_rows(rows: Scored, requires: Sequence[Requirement]) -> str | None:
    """Return in words which required kinds of rows are missing, or None."""
    missing = [kind for kind in requires if not _is_kind(rows, kind).any()]
    return (
        f"no {' and no '.join(missing)} among {count_text(len(rows), 'sample')}"
        if missing
        else None
    )
