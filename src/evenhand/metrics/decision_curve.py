"""Net benefit as a curve over thresholds, for each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from evenhand.errors import EvenhandError
from evenhand.metrics.families import family
from evenhand.metrics.forms import side_by_side
from evenhand.metrics.groups import Groups
from evenhand.metrics.intervals import group_interval
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import EVERYBODY
from evenhand.metrics.scored import Scored

THRESHOLDS = tuple(round(number / 100, 2) for number in range(1, 51))
"""Probabilities of .01 to .5."""

WEIGHTS = 2**22
"""Patients × resamples whose weights are worked on at a time."""


def decision_curve(
    rows: Scored,
    groups: Mapping[str, Groups],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    rng: np.random.Generator,
    bootstrap: Bootstrap | None = None,
) -> pd.DataFrame:
    """Return the net benefit of everybody and of each group at each threshold.

    Misleads across groups whose prevalence differs, as a group can gain at most its prevalence.
    Compare each group's curve with treating all of the group, and with treating nobody, which is 0.

    Parameters
    ----------
    rows
        Samples of two classes (see `scored`); their own thresholds are not used.
    groups
        The groups of samples, by attribute.
    thresholds
        Probabilities between 0 and 1, at and above which a case is treated.
    rng
        Draws the patients of the intervals.
    bootstrap
        How intervals are made; by default as in `measure`.

    Returns
    -------
    pandas.DataFrame
        ``attribute``, ``group``, ``threshold``, ``net_benefit``, ``low``, ``high``,
        ``treat_all`` (the net benefit of treating everybody), ``interval_method``,
        ``no_interval``, ``approximate``, ``n``, ``patients`` and ``positives``; a group without
        samples has no rows.

    Raises
    ------
    EvenhandError
        There are more than two classes, or a threshold is not between 0 and 1.

    Notes
    -----
    Vickers & Elkin, Med. Decis. Making 2006.

    Examples
    --------
    >>> from evenhand.metrics.scored import scored
    >>> rows = scored([0, 1, 0, 1], [0.1, 0.8, 0.3, 0.4])
    >>> curve = decision_curve(rows, {}, [0.2], rng=np.random.default_rng(0))
    >>> curve[["net_benefit", "treat_all"]].to_numpy().round(4).tolist()
    [[0.4375, 0.375]]
    """
    if not rows.binary:
        raise EvenhandError(
            f"a decision curve is for two classes; there are {len(rows.classes)}. Take one class "
            "against the rest, as in rows.versus_rest(0)."
        )
    bootstrap = bootstrap or Bootstrap()
    resamples = resample(int(rows.members.max()) + 1, bootstrap, rng)
    parts = list(_parts(rows, groups))
    plain = [float(threshold) for threshold in thresholds]  # an array's would print another name
    benefits = _net_benefits([part for _, _, part in parts], plain, resamples)
    points = [
        point
        for (attribute, group, part), values in zip(parts, benefits, strict=True)
        for point in _points(attribute, group, part, plain, values, resamples, bootstrap)
    ]
    return pd.DataFrame(points)


def _parts(rows: Scored, groups: Mapping[str, Groups]) -> Iterator[tuple[str, str, Scored]]:
    yield EVERYBODY, EVERYBODY, rows
    for attribute, levels in groups.items():
        for level in levels.levels:
            part = rows.take(levels.rows(level))
            if len(part):
                yield attribute, level, part


def _net_benefits(
    parts: Sequence[Scored], thresholds: Sequence[float], resamples: Resamples
) -> Floats:
    """Return the values ``(parts, thresholds, 1 + B + J)``, NaN where a resample has no rows.

    The rows of a part are counted by label and by how many of the thresholds their score reaches.
    """
    cuts, place = np.unique(thresholds, return_inverse=True)
    cells = [2 * np.searchsorted(cuts, part.scores, side="right") + part.labels for part in parts]
    size = 2 * (len(cuts) + 1)
    cell = np.concatenate([own + number * size for number, own in enumerate(cells)])
    member = np.concatenate([part.members[part.patients] for part in parts])
    shape = len(parts) * size, resamples.patients
    counted = csr_array((np.ones(len(cell), dtype=np.int32), (cell, member)), shape=shape)
    benefits = np.empty((len(parts), len(place), resamples.count))
    up = cuts[:, None]
    for block, weights in resamples.blocks(max(1, WEIGHTS // max(resamples.patients, 1))):
        drawn = side_by_side(weights)[:-1].astype(np.int32)
        counts = np.asarray(counted @ drawn, dtype=np.float64)
        counts = counts.reshape(len(parts), -1, 2, len(weights))
        reached = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
        every, flagged = reached[:, :1].sum(axis=2), reached[:, 1:]
        with np.errstate(invalid="ignore"):
            gains = (flagged[:, :, 1] - flagged[:, :, 0] * up / (1 - up)) / every
        benefits[..., block] = gains[:, place]
    return benefits


def _points(
    attribute: str,
    group: str,
    rows: Scored,
    thresholds: Sequence[float],
    values: Floats,
    resamples: Resamples,
    bootstrap: Bootstrap,
) -> Iterator[dict[str, Any]]:
    metrics = [find_metric(f"net_benefit_at[{threshold!r}]") for threshold in thresholds]
    prevalence = float(rows.labels.mean())
    for threshold, metric, benefits in zip(thresholds, metrics, values, strict=True):
        alone = family({group: rows}, metric, benefits[None], resamples, (0, 1))
        ends = group_interval(alone, resamples, bootstrap).judged(alone.fewest)
        yield {
            "attribute": attribute,
            "group": group,
            "threshold": threshold,
            "net_benefit": float(benefits[0]),
            "low": ends.low,
            "high": ends.high,
            "treat_all": prevalence - (1 - prevalence) * threshold / (1 - threshold),
            "interval_method": ends.method,
            "no_interval": ends.reason,
            "approximate": ends.approximate,
            "n": len(rows),
            "patients": len(rows.members),
            "positives": int(rows.labels.sum()),
        }
