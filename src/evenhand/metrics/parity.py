"""Deviation from parity: the mean distance from 1 of six ratios between groups.

From Yfantidou et al. (KDD 2024): the deviation of a ratio is D = |1 − ratio|; the deviation of a
model is the mean of D over six ratios; two models are compared by the relative reduction
(D_supervised − D_ssl) / D_supervised. Evenhand does not pool groups: each group is compared with
the reference.
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

LEVEL = 0.95
"""The confidence level of intervals."""

SMALLEST = 1e-12
"""Least standard error, for a value that is the same in every resample."""

RATIOS = (
    "selection_rate",
    "error_rate",
    "false_discovery_rate",
    "false_negative_rate",
    "false_omission_rate",
    "false_positive_rate",
)
"""The metrics whose ratios between groups count."""


@dataclass(frozen=True, eq=False)
class ParityNumbers:
    """AUC and distance from parity of one model, in the data and in each resample of patients.

    Attributes
    ----------
    auc
        The AUC ``(K,)`` of everybody.
    by_group
        The AUC ``(K,)`` of each group, by attribute and level.
    deviation
        The deviation from parity ``(K,)``, by attribute; NaN where a ratio is undefined. In a
        resample, 1 − ratio counts with the sign that it has in the data (see `distance`).
    aaod
        The average absolute odds difference ``(K,)``, by attribute, mean over the groups; signs in
        resamples as for the deviation.
    apart
        By attribute: whether any ratio is shown to differ from 1, corrected over all ratios. If
        none is, the true deviation may be 0, as the deviation adds up many small differences.
    numbers
        Further numbers that were requested, ``(K,)`` each; NaN where undefined.
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
) -> ParityNumbers:
    """Return AUC and distance from parity of one model on its test rows.

    Parameters
    ----------
    rows, groups
        The samples, and the level of each sample by attribute.
    resamples
        The resamples of patients.
    references
        The reference level by attribute; elsewhere the largest group.
    """
    names = ("auc", *RATIOS, "sensitivity")
    metrics = [find_metric(name) for name in names]
    everybody = estimate([rows], metrics, resamples, (1,))[0]
    by_group: dict[tuple[str, str], Floats] = {}
    deviation, aaod, apart = {}, {}, {}
    for attribute, attribute_groups in groups.items():
        levels = attribute_groups.compared()
        parts = [rows.take(attribute_groups.rows(level)) for level in levels]
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
        apart[attribute] = _any_differs_from_0(signed.reshape(-1, signed.shape[-1]))
        odds = distance(others[:, [6, 7]] - values[reference, [6, 7]])
        aaod[attribute] = odds.mean(axis=(0, 1))
    return ParityNumbers(everybody[0], by_group, deviation, aaod, apart)


def mean_of(judged: list[ParityNumbers]) -> ParityNumbers:
    """Return the mean over models that differ only in their seed, resample by resample."""
    first = judged[0]
    return ParityNumbers(
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
    """Return (D_supervised − D_ssl) / D_supervised, NaN where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reduction: Floats = (supervised - ssl) / supervised
    return np.where(np.isfinite(reduction), reduction, np.nan)


def _any_differs_from_0(signed: Floats) -> bool:
    """Return whether the interval of any of several values ``(m, 1 + B)`` excludes 0.

    The intervals are simultaneous: their critical value is the quantile of the largest |t|.
    """
    point, drawn = signed[:, 0], signed[:, 1:]
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if np.isnan(point).any() or drawn.shape[1] < 2:
        return False
    error = np.maximum(drawn.std(axis=1, ddof=1), SMALLEST)
    largest = (np.abs(drawn - point[:, None]) / error[:, None]).max(axis=0)
    return bool((np.abs(point) > np.quantile(largest, LEVEL) * error).any())


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """Return the percentile interval of values ``(1 + B,)``, the first from the data.

    Returns None if more than one resample in twenty is undefined.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) < 0.95 * (len(values) - 1) or not np.isfinite(values[0]):
        return None
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
