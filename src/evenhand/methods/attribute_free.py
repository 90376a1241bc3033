"""Thresholds by group for rows whose group is not known: it is inferred from features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from evenhand.errors import EvenhandError
from evenhand.methods.afterwards.thresholds import (
    Aim,
    GroupThreshold,
    choose_thresholds,
    halfway_down,
    patient_scores,
    promised_threshold,
)
from evenhand.methods.arrays import Rows, features_of, logit, rows_of, scores_of
from evenhand.methods.group_head import GroupHead, fit_group_head
from evenhand.methods.post_hoc import Need

Floats = NDArray[np.float64]
Rule = Literal["inferred", "merged"]


@dataclass(frozen=True)
class AttributeFree:
    """Decisions by group that do not need the group.

    Attributes
    ----------
    rule
        ``inferred``: a row is decided by the threshold of its most probable group. ``merged``: the
        thresholds are averaged, weighted by the shares that the head gives to the groups; the
        result is one linear head.
    head
        Infers the groups.
    cuts
        The threshold of each group in log-odds.
    aim, value
        The aim, and the sensitivity or probability that it names.
    groups
        What the decisions achieve in each true group: its sensitivity on the rows that chose the
        thresholds, and for ``minimum-sensitivity`` the bound. ``threshold`` is what all ``cuts``
        were raised by.
    right
        Share of the rows of each group whose group the head infers, on rows that it was not fitted
        on.
    """

    rule: Rule
    head: GroupHead
    cuts: Mapping[str, float]
    aim: Aim
    value: float
    groups: Mapping[str, GroupThreshold]
    right: Mapping[str, float]

    @property
    def attribute(self) -> Need:
        """The attribute is inferred when rows are decided."""
        return "inferred"

    @property
    def broken(self) -> tuple[str, ...]:
        """The groups whose bound does not reach the aim."""
        return tuple(level for level, chosen in self.groups.items() if chosen.promised is False)

    def offsets(self, features: ArrayLike) -> Floats:
        """Return the threshold of each row in log-odds, ``(n,)``."""
        return _offsets(self.head, self.cuts, features)

    def apply(self, scores: ArrayLike, features: ArrayLike) -> Floats:
        """Return scores ``(n,)``.

        With ``merged`` they are new ones, which are decided at 0.5; else they stay as they are.
        """
        score = scores_of(scores)
        if self.rule == "inferred":
            return score
        moved: Floats = expit(logit(score) - self.offsets(features))
        return moved

    def decide(self, scores: ArrayLike, features: ArrayLike) -> NDArray[np.bool_]:
        """Return the decision of each row, ``(n,)``."""
        offsets = self.offsets(features)
        return logit(scores_of(scores, len(offsets))) >= offsets


def choose_without_attribute(
    scores: ArrayLike,
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    rule: Rule,
    *,
    patients: ArrayLike | None = None,
    head: GroupHead | None = None,
    aim: Aim = "equal-sensitivity",
    value: float = 0.9,
    confidence: float = 0.95,
    seed: int = 0,
) -> AttributeFree:
    """Choose thresholds by group, and how they are applied where the group is not known.

    Parameters
    ----------
    scores, labels, groups, patients, aim, value, confidence
        As for `choose_thresholds`. The groups are needed here, and not when rows are decided.
    features
        ``(n, D)`` that the groups are inferred from, such as what a model's last layer takes.
    rule
        ``inferred`` or ``merged`` (`AttributeFree`).
    head
        Infers the groups, fitted on other patients (`fit_group_head`). By default half of the
        patients here fit it, and the other half choose the thresholds.
    seed
        Draws the halves.

    Raises
    ------
    EvenhandError
        As `choose_thresholds`; or a half of the patients lacks positive patients of some group.

    Notes
    -----
    For ``minimum-sensitivity``, one half of the patients chooses the groups' thresholds. On the
    other half, one shift of all thresholds is chosen: the highest at which every true group's
    Clopper–Pearson bound reaches the value. The promise then holds whatever the head infers.
    For the other aims the thresholds are those of the true groups; where the head errs, the aim
    is met only about, and ``groups`` says what is achieved.

    Delaney, Fu, Wachter, Mittelstadt & Russell (OxonFair, NeurIPS 2024, arXiv 2407.13710) infer
    groups in these two ways.
    """
    rows = rows_of(labels, groups, patients)
    score, table = scores_of(scores, len(rows)), features_of(features).astype(np.float64)
    if len(table) != len(rows):
        raise EvenhandError(f"{len(table)} rows of features for {len(rows)} labels.")
    promise = aim == "minimum-sensitivity"
    first, second = _halves(rows, promise or head is None, seed)
    if head is None:
        head = fit_group_head(table[first], rows.groups[first], linear=rule == "merged", seed=seed)
    choosing = first if promise else second
    aimed: Aim = "equal-sensitivity" if promise else aim
    part = rows.take(choosing)
    chosen = choose_thresholds(
        score[choosing], part.labels, part.groups, patients=part.patients, aim=aimed, value=value
    ).settled(score[choosing])
    cuts = {level: float(logit(np.array(g.threshold))) for level, g in chosen.groups.items()}
    margins = logit(score[second]) - _offsets(head, cuts, table[second])
    tail = (1 - confidence) / len(rows.levels)
    reached, shift = _reached(margins, rows.take(second), value, tail, promise=promise)
    right = {
        level: float((head.group(table[second & (rows.groups == level)]) == level).mean())
        for level in rows.levels
    }
    moved = {level: cut + shift for level, cut in cuts.items()}
    return AttributeFree(rule, head, moved, aim, value, reached, right)


def _offsets(head: GroupHead, cuts: Mapping[str, float], features: ArrayLike) -> Floats:
    of_groups = np.array([cuts[level] for level in head.levels])
    outputs = head.outputs(features)
    offsets: Floats = outputs @ of_groups if head.linear else of_groups[outputs.argmax(axis=1)]
    return offsets


def _halves(rows: Rows, apart: bool, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two halves of the patients as masks, or all rows twice."""
    if not apart:
        every = np.ones(len(rows), dtype=np.bool_)
        return every, every
    half = np.random.default_rng(seed).permutation(rows.patients.max() + 1) % 2 == 0
    first = half[rows.patients]
    for level in rows.levels:
        positive = (rows.groups == level) & (rows.labels == 1)
        if not (positive & first).any() or not (positive & ~first).any():
            raise EvenhandError(
                f"group {level!r} has too few positive patients: one half of the patients fits "
                "what the other half checks, and one of them has none. Merge it with another group."
            )
    return first, ~first


def _reached(
    margins: Floats, rows: Rows, value: float, tail: float, *, promise: bool
) -> tuple[dict[str, GroupThreshold], float]:
    """Return what each true group reaches, and by how much all thresholds are raised for it."""
    best = {}
    for level in rows.levels:
        member = rows.groups == level
        best[level] = patient_scores(margins[member], rows.take(member))
    if not promise:
        achieved = {level: float((values >= 0).mean()) for level, values in best.items()}
        return {
            level: GroupThreshold(0.0, len(values), achieved[level])
            for level, values in best.items()
        }, 0.0
    bounds = {level: promised_threshold(values, value, tail) for level, values in best.items()}
    lowest = min(bound.threshold for bound in bounds.values())
    shift = halfway_down(lowest, np.unique(margins))
    return {
        level: replace(bound, threshold=shift, achieved=float((best[level] >= shift).mean()))
        for level, bound in bounds.items()
    }, shift
