"""Deviation from parity: how far six ratios between groups lie from 1, and how much less.

Both are of Yfantidou et al. (KDD 2024): the deviation of a ratio is D = |1 − ratio|, a model's
deviation the mean of D over six ratios, and the headline of a comparison the relative reduction
(D_supervised − D_ssl) / D_supervised. Groups are not pooled here: each is compared with the
reference by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evenhand.metrics.aggregates import distance
from evenhand.metrics.estimate import estimate
from evenhand.metrics.groups import Groups
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Resamples
from evenhand.metrics.rows import Key
from evenhand.metrics.scored import Scored

SMALLEST = 1e-12  # error of a value that is the same in every resample
RATIOS = (
    "selection_rate",
    "error_rate",
    "false_discovery_rate",
    "false_negative_rate",
    "false_omission_rate",
    "false_positive_rate",
)


@dataclass(frozen=True, eq=False)
class Judged:
    """What is said of one model, in the data and in each resample of patients.

    Attributes
    ----------
    auc
        ``(K,)`` of everybody.
    by_group
        AUC ``(K,)`` of each group, by attribute and level.
    deviation
        Deviation from parity ``(K,)`` by attribute; NaN where a ratio is undefined. In a resample
        each ratio's part is counted towards the side of 1 that the data's lies on (`distance`).
    aaod
        Average absolute odds difference ``(K,)`` by attribute, mean over the groups; likewise.
    apart
        Whether, by attribute, any single ratio is told from 1, all of them looked at together.
        Where none is, the deviation may be 0, however many small ones add up to it.
    numbers
        Whatever else was asked for, ``(K,)`` each; NaN where it is undefined.
    """

    auc: Floats
    by_group: Mapping[tuple[str, str], Floats]
    deviation: Mapping[str, Floats]
    aaod: Mapping[str, Floats]
    apart: Mapping[str, bool]
    numbers: Mapping[Key, Floats] = field(default_factory=dict)


def judge_parity(
    rows: Scored,
    groups: Mapping[str, Groups],
    resamples: Resamples,
    references: Mapping[str, str] | None = None,
) -> Judged:
    """Judge one model's test rows.

    The reference of an attribute is the level that ``references`` names, else its largest group.
    """
    names = ("auc", *RATIOS, "sensitivity")
    metrics = [find_metric(name) for name in names]
    everybody = estimate([rows], metrics, resamples, (1,))[0]
    by_group: dict[tuple[str, str], Floats] = {}
    deviation, aaod, apart = {}, {}, {}
    for attribute, own in groups.items():
        levels = own.compared()
        parts = [rows.take(own.rows(level)) for level in levels]
        values = estimate(parts, metrics, resamples, (1,))  # (G, 8, K)
        by_group |= {(attribute, level): values[g, 0] for g, level in enumerate(levels)}
        named = (references or {}).get(attribute)
        largest = int(np.argmax([len(part) for part in parts]))
        reference = largest if named is None else levels.index(named)
        others = np.delete(values, reference, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = others[:, 1:7] / values[reference, 1:7]
        signed = 1 - np.where(np.isfinite(ratios), ratios, np.nan)
        deviation[attribute] = distance(signed).mean(axis=(0, 1))
        apart[attribute] = _any_told_from_0(signed.reshape(-1, signed.shape[-1]))
        odds = distance(others[:, [6, 7]] - values[reference, [6, 7]])
        aaod[attribute] = odds.mean(axis=(0, 1))
    return Judged(everybody[0], by_group, deviation, aaod, apart)


def mean_of(judged: list[Judged]) -> Judged:
    """Return the mean over models that differ in their seed only, resample by resample."""
    first = judged[0]
    return Judged(
        np.mean([model.auc for model in judged], axis=0),
        {key: np.mean([model.by_group[key] for model in judged], axis=0) for key in first.by_group},
        {
            key: np.mean([model.deviation[key] for model in judged], axis=0)
            for key in first.deviation
        },
        {key: np.mean([model.aaod[key] for model in judged], axis=0) for key in first.aaod},
        {key: all(model.apart[key] for model in judged) for key in first.apart},
        {key: np.mean([model.numbers[key] for model in judged], axis=0) for key in first.numbers},
    )


def relative_reduction(supervised: Floats, ssl: Floats) -> Floats:
    """Return (D_supervised − D_ssl) / D_supervised, the headline of the paper."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reduction: Floats = (supervised - ssl) / supervised
    return np.where(np.isfinite(reduction), reduction, np.nan)


def _any_told_from_0(signed: Floats, level: float = 0.95) -> bool:
    """Tell whether any of several values ``(m, 1 + B)`` has an interval that leaves out 0.

    The intervals hold together: they reach as far as the quantile of the largest |t| of all.
    """
    point, drawn = signed[:, 0], signed[:, 1:]
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if np.isnan(point).any() or drawn.shape[1] < 2:
        return False
    error = np.maximum(drawn.std(axis=1, ddof=1), SMALLEST)
    largest = (np.abs(drawn - point[:, None]) / error[:, None]).max(axis=0)
    return bool((np.abs(point) > np.quantile(largest, level) * error).any())


def ends(values: Floats, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval of values ``(1 + B,)`` whose first is the data's own.

    None where more than one resample in twenty has no value.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) < 0.95 * (len(values) - 1) or not np.isfinite(values[0]):
        return None
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
