"""Thresholds by group for rows of unknown group, which is inferred from features."""

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
from evenhand.methods.arrays import Floats, Rows, check_features, check_rows, check_scores, logit
from evenhand.methods.group_head import GroupHead, fit_group_head
from evenhand.methods.post_hoc import AttributeNeed

AttributeFreeRule = Literal["inferred", "merged"]


@dataclass(frozen=True)
class AttributeFree:
    """Decisions with thresholds by group, for rows whose group is inferred.

    Attributes
    ----------
    rule
        ``inferred``: a row is decided by the threshold of its most probable group. ``merged``: the
        thresholds are averaged, weighted by the shares that the head gives to the groups; the
        result is one linear head.
    head
        The linear layer that infers the groups.
    cuts
        The threshold of each group in log-odds.
    aim, value
        The aim, and its sensitivity or probability.
    groups
        Results in each true group: sensitivity on the rows that chose the thresholds, and the bound
        for ``minimum-sensitivity``. ``threshold`` is the shift that was added to all ``cuts``.
    right
        Share of each group's rows whose group the head infers correctly; the head was fitted on
        other rows.
    """

    rule: AttributeFreeRule
    head: GroupHead
    cuts: Mapping[str, float]
    aim: Aim
    value: float
    groups: Mapping[str, GroupThreshold]
    right: Mapping[str, float]

    @property
    def attribute(self) -> AttributeNeed:
        """Return ``inferred``: decisions infer the attribute."""
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

        With ``merged`` they are new scores with the threshold 0.5; with ``inferred`` they are
        unchanged.
        """
        score = check_scores(scores)
        if self.rule == "inferred":
            return score
        shifted: Floats = expit(logit(score) - self.offsets(features))
        return shifted

    def decide(self, scores: ArrayLike, features: ArrayLike) -> NDArray[np.bool_]:
        """Return the decision of each row, ``(n,)``."""
        offsets = self.offsets(features)
        return logit(check_scores(scores, len(offsets))) >= offsets


def choose_without_attribute(
    scores: ArrayLike,
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    rule: AttributeFreeRule,
    *,
    patients: ArrayLike | None = None,
    head: GroupHead | None = None,
    aim: Aim = "equal-sensitivity",
    value: float = 0.9,
    confidence: float = 0.95,
    seed: int = 0,
) -> AttributeFree:
    """Choose thresholds by group that can be applied to rows of unknown group.

    Parameters
    ----------
    scores, labels, groups, patients, aim, value, confidence
        As for `choose_thresholds`. Groups are needed to choose thresholds, not to decide rows.
    features
        ``(n, D)``, from which groups are inferred, such as the inputs of a model's last layer.
    rule
        ``inferred`` or ``merged`` (`AttributeFree`).
    head
        The layer that infers groups, fitted on other patients (`fit_group_head`). By default it is
        fitted on half of these patients, and the other half choose the thresholds.
    seed
        Seed of the halves.

    Raises
    ------
    EvenhandError
        As `choose_thresholds`; also if one half of the patients has no positive patient of a group.

    Notes
    -----
    For ``minimum-sensitivity``, one half of the patients chooses the groups' thresholds. On the
    other half, one shift of all thresholds is chosen: the highest at which the Clopper–Pearson
    bound of every true group reaches the value. So the bound holds even if the head infers groups
    badly. For the other aims the thresholds are those of the true groups; if the head errs, the aim
    is met only approximately, and ``groups`` has the results.

    Delaney, Fu, Wachter, Mittelstadt & Russell (OxonFair, NeurIPS 2024, arXiv 2407.13710) infer
    groups in these two ways.
    """
    rows = check_rows(labels, groups, patients)
    score, table = check_scores(scores, len(rows)), check_features(features).astype(np.float64)
    if len(table) != len(rows):
        raise EvenhandError(f"{len(table)} rows of features for {len(rows)} labels.")
    promise = aim == "minimum-sensitivity"
    first, second = _halves(rows, promise or head is None, seed)
    if head is None:
        head = fit_group_head(table[first], rows.groups[first], linear=rule == "merged", seed=seed)
    choosing = first if promise else second
    first_aim: Aim = "equal-sensitivity" if promise else aim
    part = rows.take(choosing)
    chosen = choose_thresholds(
        score[choosing],
        part.labels,
        part.groups,
        patients=part.patients,
        aim=first_aim,
        value=value,
    ).settled(score[choosing])
    cuts = {level: float(logit(np.array(g.threshold))) for level, g in chosen.groups.items()}
    margins = logit(score[second]) - _offsets(head, cuts, table[second])
    tail = (1 - confidence) / len(rows.levels)
    results, shift = _results(margins, rows.take(second), value, tail, promise=promise)
    right = {
        level: float((head.group(table[second & (rows.groups == level)]) == level).mean())
        for level in rows.levels
    }
    shifted_cuts = {level: cut + shift for level, cut in cuts.items()}
    return AttributeFree(rule, head, shifted_cuts, aim, value, results, right)


def _offsets(head: GroupHead, cuts: Mapping[str, float], features: ArrayLike) -> Floats:
    group_cuts = np.array([cuts[level] for level in head.levels])
    outputs = head.outputs(features)
    offsets: Floats = outputs @ group_cuts if head.linear else group_cuts[outputs.argmax(axis=1)]
    return offsets


def _halves(rows: Rows, split: bool, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the rows of two halves of the patients as masks; without ``split``, all rows twice."""
    if not split:
        all_rows = np.ones(len(rows), dtype=np.bool_)
        return all_rows, all_rows
    half = np.random.default_rng(seed).permutation(rows.patients.max() + 1) % 2 == 0
    first = half[rows.patients]
    for level in rows.levels:
        positive = (rows.groups == level) & (rows.labels == 1)
        if not (positive & first).any() or not (positive & ~first).any():
            raise EvenhandError(
                f"group {level!r} has too few positive patients: the patients are divided into two "
                "halves, and one half has none. Merge it with another group."
            )
    return first, ~first


def _results(
    margins: Floats, rows: Rows, value: float, tail: float, *, promise: bool
) -> tuple[dict[str, GroupThreshold], float]:
    """Return the results of each true group, and the shift of all thresholds (0: no promise)."""
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
