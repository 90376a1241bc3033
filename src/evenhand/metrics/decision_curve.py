"""Net benefit as a curve over thresholds, for each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError
from evenhand.metrics.estimate import estimate
from evenhand.metrics.families import family
from evenhand.metrics.groups import Groups
from evenhand.metrics.intervals import group_interval
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import EVERYBODY
from evenhand.metrics.scored import Scored

THRESHOLDS = tuple(round(number / 100, 2) for number in range(1, 51))
"""Probabilities of .01 to .5."""


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
    points = [
        point
        for attribute, group, part in _parts(rows, groups)
        for point in _points(attribute, group, part, thresholds, resamples, bootstrap)
    ]
    return pd.DataFrame(points)


def _parts(rows: Scored, groups: Mapping[str, Groups]) -> Iterator[tuple[str, str, Scored]]:
    yield EVERYBODY, EVERYBODY, rows
    for attribute, levels in groups.items():
        for level in levels.levels:
            part = rows.take(levels.rows(level))
            if len(part):
                yield attribute, level, part


def _points(
    attribute: str,
    group: str,
    rows: Scored,
    thresholds: Sequence[float],
    resamples: Resamples,
    bootstrap: Bootstrap,
) -> Iterator[dict[str, Any]]:
    plain = [float(threshold) for threshold in thresholds]  # an array's would print another name
    metrics = [find_metric(f"net_benefit_at[{threshold!r}]") for threshold in plain]
    values = estimate([rows], metrics, resamples, (0, 1))[0]
    prevalence = float(rows.labels.mean())
    for threshold, metric, benefits in zip(plain, metrics, values, strict=True):
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
