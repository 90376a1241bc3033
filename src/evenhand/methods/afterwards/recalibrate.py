"""Recalibration by group: a slope and an intercept per group, shrunk towards the pooled fit.

Misleads if taken for a better ranking: within a group the order of patients and the AUC do not
change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from evenhand.methods.arrays import (
    Floats,
    Rows,
    Strengths,
    check_rows,
    check_scores,
    group_names,
    logit,
    require_labels,
)
from evenhand.methods.offset_logistic import fit_offset_logistic
from evenhand.methods.post_hoc import AttributeNeed, PostHoc

RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Strengths of the penalty to try, in units of the information of one row."""
FOLDS = 5


@dataclass(frozen=True)
class LogitLine:
    """A straight line in log-odds: ``slope · logit + intercept``."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Recalibrated:
    """New scores by group.

    Attributes
    ----------
    pooled
        The line of all rows, used for groups that are not in ``groups``.
    groups
        The line of each group.
    ridge
        Strength of the penalty, chosen by cross-validation over patients.
    """

    pooled: LogitLine
    groups: Mapping[str, LogitLine]
    ridge: float

    @property
    def attribute(self) -> AttributeNeed:
        """Return ``yes``: scoring needs the attribute."""
        return "yes"

    def apply(self, scores: ArrayLike, groups: ArrayLike) -> Floats:
        """Return recalibrated probabilities ``(n,)``.

        The order within a group does not change if the slope of its line is above 0.
        """
        names = group_names(groups)
        log_odds = logit(check_scores(scores, len(names)))
        new: Floats = expit(_recalibrate(log_odds, names, self.pooled, self.groups))
        return new


def recalibrate(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    ridges: Strengths = RIDGES,
    seed: int = 0,
) -> Recalibrated:
    """Fit a slope and an intercept in log-odds for each group.

    Parameters
    ----------
    scores
        ``(n,)``, probabilities of class 1.
    labels, groups, patients
        ``(n,)`` each.
    ridges
        Strengths to try for the penalty on the distance of a group's line from the line of all
        rows. Cross-validation over patients selects the one with the lowest log loss.
    seed
        Seed of the folds of patients.

    Raises
    ------
    EvenhandError
        If arrays do not fit, or if a group lacks a class.

    Notes
    -----
    Platt's scaling (1999) per group, with ridge shrinkage towards the pooled line.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> group, label = rng.choice(["a", "b"], 20000), rng.integers(2, size=20000)
    >>> truth = 2 * rng.normal(2 * label - 1, 1)
    >>> shown = expit(np.where(group == "b", 2 * truth, truth))  # b's scores are too extreme
    >>> fit = recalibrate(shown, label, group)
    >>> round(fit.groups["a"].slope, 1), round(fit.groups["b"].slope, 1)
    (1.0, 0.5)
    """
    rows = check_rows(labels, groups, patients)
    require_labels(rows, "recalibrate")
    log_odds = logit(check_scores(scores, len(rows)))
    ridge = _best_ridge(log_odds, rows, ridges, np.random.default_rng(seed))
    pooled = _fit_pooled(log_odds, rows)
    lines = _fit_lines(log_odds, rows, ridge, pooled)
    return Recalibrated(pooled, lines, ridge)


def _fit_pooled(log_odds: Floats, rows: Rows) -> LogitLine:
    features = np.column_stack([log_odds, np.ones(len(rows))])
    slope, intercept = fit_offset_logistic(features, rows.labels, np.zeros(len(rows)), 1e-6)
    return LogitLine(float(slope), float(intercept))


def _fit_lines(
    log_odds: Floats, rows: Rows, ridge: float, pooled: LogitLine
) -> dict[str, LogitLine]:
    """Fit a line for each group, shrunk towards the pooled line."""
    features = np.column_stack([log_odds, np.ones(len(rows))])
    slope, intercept = pooled.slope, pooled.intercept
    lines = {}
    for level in rows.levels:
        member = rows.groups == level
        offset = slope * log_odds[member] + intercept
        slope_change, intercept_change = fit_offset_logistic(
            features[member], rows.labels[member], offset, ridge
        )
        lines[level] = LogitLine(float(slope + slope_change), float(intercept + intercept_change))
    return lines


def _best_ridge(
    log_odds: Floats, rows: Rows, ridges: Sequence[float], rng: np.random.Generator
) -> float:
    """Return the strength with the lowest log loss on held-out patients."""
    fold_of = rng.permutation(rows.patients.max() + 1) % FOLDS
    fold = fold_of[rows.patients]
    losses = np.zeros(len(ridges))
    for number in range(FOLDS):
        held_out = fold == number
        training = rows.take(~held_out)
        if not held_out.any() or len(np.unique(training.labels)) < 2:
            continue
        pooled = _fit_pooled(log_odds[~held_out], training)
        for k, ridge in enumerate(ridges):
            lines = _fit_lines(log_odds[~held_out], training, ridge, pooled)
            losses[k] += _log_loss(log_odds[held_out], rows.take(held_out), pooled, lines)
    return float(ridges[int(np.argmin(losses))])


def _recalibrate(
    log_odds: Floats, groups: NDArray[np.str_], pooled: LogitLine, lines: Mapping[str, LogitLine]
) -> Floats:
    """Return each row's log-odds on the line of its group."""
    levels, codes = np.unique(groups, return_inverse=True)
    chosen = [lines.get(level, pooled) for level in levels.tolist()]
    slope, intercept = (
        np.array([getattr(line, name) for line in chosen]) for name in ("slope", "intercept")
    )
    log_odds_on_line: Floats = slope[codes] * log_odds + intercept[codes]
    return log_odds_on_line


def _log_loss(
    log_odds: Floats, rows: Rows, pooled: LogitLine, lines: Mapping[str, LogitLine]
) -> float:
    recalibrated = _recalibrate(log_odds, rows.groups, pooled, lines)
    return float((np.logaddexp(0, recalibrated) - rows.labels * recalibrated).sum())


METHOD = PostHoc(
    recalibrate,
    takes="scores",
    groups="one",
    needs="Needs the attribute to fit and to score, and both labels in every group.",
    source="Platt 1999, by group",
)
