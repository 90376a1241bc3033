"""Net benefit as a curve over thresholds, for each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from evenhand.errors import EvenhandError
from evenhand.metrics.families import metric_family
from evenhand.metrics.forms import transposed_weights
from evenhand.metrics.groups import Groups
from evenhand.metrics.intervals import group_interval
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import EVERYBODY
from evenhand.metrics.scored import Scored

THRESHOLDS = tuple(round(number / 100, 2) for number in range(1, 51))
"""Probabilities of .01 to .5."""

BLOCK_WEIGHTS = 2**22
"""Number of weights (patients × resamples) in one block."""


def decision_curve(
    rows: Scored,
    groups: Mapping[str, Groups],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    rng: np.random.Generator,
    bootstrap: Bootstrap | None = None,
) -> pd.DataFrame:
    """Return the net benefit of everybody and of each group at each threshold.

    Misleads if groups with different prevalence are compared: the net benefit of a group is at most
    its prevalence. Compare each group's curve with treating everybody in the group (``treat_all``)
    and with treating nobody (0).

    Parameters
    ----------
    rows
        Samples of two classes (see `as_scored`); the thresholds in it are not used.
    groups
        The groups of samples, by attribute.
    thresholds
        Probabilities between 0 and 1; a case is treated if its score is at least the threshold.
    rng
        Draws the resamples of patients.
    bootstrap
        How intervals are computed; by default as in `measure`.

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
        If there are more than two classes, or a threshold is not between 0 and 1.

    Notes
    -----
    Vickers & Elkin, Med. Decis. Making 2006.

    Examples
    --------
    >>> from evenhand.metrics.scored import as_scored
    >>> rows = as_scored([0, 1, 0, 1], [0.1, 0.8, 0.3, 0.4])
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
    cuts = [float(threshold) for threshold in thresholds]  # numpy floats have another repr
    benefits = _net_benefits([part for _, _, part in parts], cuts, resamples)
    points = [
        point
        for (attribute, group, part), values in zip(parts, benefits, strict=True)
        for point in _points(attribute, group, part, cuts, values, resamples, bootstrap)
    ]
    return pd.DataFrame(points)


def _parts(rows: Scored, groups: Mapping[str, Groups]) -> Iterator[tuple[str, str, Scored]]:
    """Yield everybody, then each group that has samples, as attribute, level and samples."""
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

    The last axis is that of `Resamples`. The rows of a part are counted by label and by the number
    of thresholds that their score reaches.
    """
    cuts, inverse = np.unique(thresholds, return_inverse=True)
    cells = [2 * np.searchsorted(cuts, part.scores, side="right") + part.labels for part in parts]
    size = 2 * (len(cuts) + 1)
    cell = np.concatenate([part_cells + index * size for index, part_cells in enumerate(cells)])
    member = np.concatenate([part.members[part.patients] for part in parts])
    shape = len(parts) * size, resamples.patients
    counted = csr_array((np.ones(len(cell), dtype=np.int32), (cell, member)), shape=shape)
    benefits = np.empty((len(parts), len(inverse), resamples.count))
    cut = cuts[:, None]
    for block, weights in resamples.blocks(max(1, BLOCK_WEIGHTS // max(resamples.patients, 1))):
        drawn = transposed_weights(weights)[:-1].astype(np.int32)
        counts = np.asarray(counted @ drawn, dtype=np.float64)
        counts = counts.reshape(len(parts), -1, 2, len(weights))
        reached = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
        total, flagged = reached[:, :1].sum(axis=2), reached[:, 1:]
        with np.errstate(invalid="ignore"):
            gains = (flagged[:, :, 1] - flagged[:, :, 0] * cut / (1 - cut)) / total
        benefits[..., block] = gains[:, inverse]
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
    """Yield the rows of the table for one group, with intervals."""
    metrics = [find_metric(f"net_benefit_at[{threshold!r}]") for threshold in thresholds]
    prevalence = float(rows.labels.mean())
    for threshold, metric, benefits in zip(thresholds, metrics, values, strict=True):
        family = metric_family({group: rows}, metric, benefits[None], resamples, (0, 1))
        ends = group_interval(family, resamples, bootstrap).mark_if_few(family.fewest)
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
