"""Values of metrics on groups, for the data and for every resample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Metric, Requirement
from evenhand.metrics.resample import Resamples, as_resamples
from evenhand.metrics.scored import Scored
from evenhand.metrics.stream import Stream
from evenhand.wording import counted


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
    classes
        The classes that one-vs-rest means are taken over (see `common_classes`).
    """
    stream = Stream(resamples)
    values = [stream.add(rows, [np.arange(len(rows))], metrics, classes) for rows in groups]
    stream.run()
    empty = np.empty((0, len(metrics), resamples.count))
    return np.concatenate(values) if values else empty


def point(rows: Scored, metric: Metric, classes: Sequence[int]) -> float:
    """Return the value of one metric on some rows, NaN where it is undefined."""
    if not len(rows):
        return math.nan
    everybody = as_resamples(np.ones((1, len(rows.members)), dtype=np.uint8))
    own = replace(rows, members=np.arange(len(rows.members)))
    return float(estimate([own], [metric], everybody, classes)[0, 0, 0])


def common_classes(groups: Sequence[Scored]) -> tuple[int, ...]:
    """Return the classes for one-vs-rest means: each group has rows in and outside the class."""
    n_classes = len(groups[0].classes) if groups else 0

    def has(rows: Scored, which: int) -> bool:
        count = int(np.count_nonzero(rows.labels == which))
        return 0 < count < len(rows)

    return tuple(c for c in range(n_classes) if all(has(rows, c) for rows in groups))


def why_undefined(rows: Scored, metric: Metric, classes: Sequence[int]) -> str | None:
    """Return the reason, with counts, why a metric is undefined on some rows, or None."""
    if not len(rows):
        return "no samples"
    if rows.binary:
        return _lacking(rows, metric.requires)
    if metric.classes == "two":
        return f"defined for two classes only; there are {len(rows.classes)}"
    if metric.classes == "any":
        return None
    if not classes:
        return "no class is present, with others beside it, in every group"
    for which in classes:
        lacks = _lacking(rows.versus_rest(which), metric.requires)
        if lacks:
            return f"class {rows.classes[which]!r}: {lacks}"
    return None


def patients_behind(rows: Scored, metric: Metric, classes: Sequence[int]) -> int:
    """Return the number of patients who have the rows that a metric requires.

    It is the smallest of these numbers if the metric requires several kinds of rows or is a mean
    over classes, and the number of all patients if it requires none.
    """
    if not rows.binary and metric.classes == "macro":
        of_class = (patients_behind(rows.versus_rest(which), metric, (1,)) for which in classes)
        return min(of_class, default=0)
    if not metric.requires:
        return len(rows.members)
    return min(_patients(rows, kind) for kind in metric.requires)


def _patients(rows: Scored, kind: Requirement) -> int:
    """Return the number of patients who have rows of a kind."""
    of_kind = np.bincount(rows.patients[_which(rows, kind)], minlength=len(rows.members))
    return int(np.count_nonzero(of_kind))


def _which(rows: Scored, kind: Requirement) -> NDArray[np.bool_]:
    """Return the mask ``(n,)`` of the rows of a kind."""
    classes = rows.labels if kind in ("positives", "negatives") else rows.decisions
    wanted: NDArray[np.bool_] = classes == (kind in ("positives", "flagged"))
    return wanted


def _lacking(rows: Scored, requires: Sequence[Requirement]) -> str | None:
    missing = [kind for kind in requires if not _which(rows, kind).any()]
    return (
        f"no {' and no '.join(missing)} among {counted(len(rows), 'sample')}" if missing else None
    )
