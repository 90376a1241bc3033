"""Decision thresholds by group: equal sensitivity, guaranteed sensitivity, net benefit.

Misleads if taken for a better model: scores and AUC do not change. Equal sensitivity costs false
alarms in the group that the model serves worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError, count_text, pick
from evenhand.methods.arrays import Floats, Rows, Share, check_rows, check_scores, group_names
from evenhand.methods.group_head import GroupHead
from evenhand.methods.post_hoc import AttributeNeed, PostHoc, PostHocFit

Aim = Literal["equal-sensitivity", "minimum-sensitivity", "net-benefit"]
AtTest = Literal["known", "inferred", "merged"]


@dataclass(frozen=True)
class GroupThreshold:
    """The threshold of one group, and the numbers behind it.

    Attributes
    ----------
    threshold
        Rows with this score or a higher score are decided as class 1.
    positives
        Number of positive patients (equal and minimum sensitivity) or positive rows (net benefit).
    achieved
        Sensitivity (for the aim net benefit: net benefit) on the rows that chose the threshold.
    bound
        One-sided lower bound of the sensitivity among new patients; for minimum sensitivity only.
    promised
        Whether the bound reaches the aim; None for aims without a bound. If it does not, the
        threshold is the highest at which all positive patients in these rows are found.
    needed
        Smallest number of positive patients with which the bound can reach the aim.
    """

    threshold: float
    positives: int
    achieved: float
    bound: float | None = None
    promised: bool | None = None
    needed: int | None = None


@dataclass(frozen=True)
class Thresholds:
    """Thresholds by group, and a pooled one for all other groups.

    Attributes
    ----------
    aim, value
        The aim, and its sensitivity or probability.
    groups
        The threshold of each group, by its name.
    pooled
        The threshold of all rows together.
    """

    aim: Aim
    value: float
    groups: Mapping[str, GroupThreshold]
    pooled: float

    @property
    def attribute(self) -> AttributeNeed:
        """Return ``yes``: decisions need the attribute."""
        return "yes"

    def apply(self, scores: ArrayLike, groups: object = None) -> Floats:
        """Return the scores unchanged: the method changes only decisions."""
        del groups
        return check_scores(scores)

    def settled(self, scores: ArrayLike) -> Thresholds:
        """Return the thresholds, each moved half-way down to the next lower score.

        The decisions on these scores do not change, even if another machine computes a score with
        a different rounding error. No sensitivity falls, so every bound still holds.
        """
        rising = np.unique(check_scores(scores))
        groups = {
            level: replace(chosen, threshold=halfway_down(chosen.threshold, rising))
            for level, chosen in self.groups.items()
        }
        return replace(self, groups=groups, pooled=halfway_down(self.pooled, rising))

    def of_rows(self, groups: ArrayLike) -> Floats:
        """Return the threshold of each row, ``(n,)``."""
        cuts = {level: chosen.threshold for level, chosen in self.groups.items()}
        return np.array([cuts.get(group, self.pooled) for group in group_names(groups).tolist()])

    def decide(self, scores: ArrayLike, groups: ArrayLike) -> NDArray[np.bool_]:
        """Return the decision of each row: whether its score reaches its group's threshold."""
        thresholds = self.of_rows(groups)
        return check_scores(scores, len(thresholds)) >= thresholds

    @property
    def broken(self) -> tuple[str, ...]:
        """The groups whose bound does not reach the aim."""
        return tuple(level for level, chosen in self.groups.items() if chosen.promised is False)


def choose_thresholds(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    aim: Aim = "equal-sensitivity",
    value: float = 0.9,
    confidence: float = 0.95,
) -> Thresholds:
    """Choose a deterministic threshold for each group.

    Parameters
    ----------
    scores
        ``(n,)``, probabilities of class 1.
    labels, groups, patients
        ``(n,)`` each; a patient is found if at least one of the patient's positive rows is flagged.
    aim
        ``equal-sensitivity``: the highest threshold at which at least ``value`` of the positive
        patients are found. ``minimum-sensitivity``: the highest threshold at which at least
        ``value`` of *new* positive patients are found, in every group at once, with the given
        confidence. ``net-benefit``: the threshold with the largest net benefit, where ``value`` is
        the probability of disease at which flagging and not flagging a row are worth the same.
    value
        A sensitivity, or for ``net-benefit`` a probability; between 0 and 1.
    confidence
        For ``minimum-sensitivity``: the joint confidence over the groups (Bonferroni).

    Raises
    ------
    EvenhandError
        If no aim has that name, a value is outside 0 … 1, a group has no positive row, or arrays do
        not fit.

    Notes
    -----
    The bound of ``minimum-sensitivity`` is Clopper and Pearson's, one-sided, with positive
    patients as trials. It is also valid for a threshold that is chosen on the same patients: the
    threshold is an order statistic of their scores, and the sensitivity above the r-th smallest of
    n scores is distributed as Beta(n − r + 1, r) for continuous scores, and not lower with ties
    (Wilks, Ann. Math. Stat. 1941). The rows must not have been used to train the model or to choose
    its epoch.

    Equal sensitivity follows Hardt, Price & Srebro (NeurIPS 2016), without randomised decisions.

    Examples
    --------
    >>> chosen = choose_thresholds([.2, .6, .9, .1, .3, .4], [0, 1, 1, 0, 1, 1], list("aaabbb"))
    >>> {level: group.threshold for level, group in chosen.groups.items()}
    {'a': 0.6, 'b': 0.3}
    """
    if not 0 < value < 1 or not 0 < confidence < 1:
        raise EvenhandError(
            f"the aim's value is {value} and its confidence {confidence}; give both between 0 and "
            "1."
        )
    pick("aim", aim, dict.fromkeys(get_args(Aim)))
    rows = check_rows(labels, groups, patients)
    score = check_scores(scores, len(rows))
    tail = (1 - confidence) / len(rows.levels)
    chosen = {}
    for level in rows.levels:
        member = rows.groups == level
        if not rows.labels[member].any():
            raise EvenhandError(
                f"group {level!r} has {count_text(int(member.sum()), 'row')} and no positive one, "
                "so no threshold can be chosen for it. Merge it with another group or leave it out."
            )
        chosen[level] = _choose(score[member], rows.take(member), aim, value, tail)
    pooled = _choose(score, rows, aim, value, 1 - confidence).threshold
    return Thresholds(aim, value, chosen, pooled)


def halfway_down(threshold: float, rising: Floats) -> float:
    """Return the midpoint between a threshold and the next lower value of a rising array.

    Examples
    --------
    >>> halfway_down(0.6, np.array([0.2, 0.6, 0.9])), halfway_down(0.2, np.array([0.2, 0.6]))
    (0.4, 0.2)
    """
    below = int(np.searchsorted(rising, threshold)) - 1
    if below < 0:
        return threshold
    middle = float((rising[below] + threshold) / 2)
    return middle if middle > rising[below] else threshold  # no float lies between the two


def fit_thresholds(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    features: ArrayLike | None = None,
    head: GroupHead | None = None,
    aim: Aim = "equal-sensitivity",
    value: Share = 0.9,
    confidence: Share = 0.95,
    at_test: AtTest = "known",
    seed: int = 0,
) -> PostHocFit:
    """Choose thresholds by group, or thresholds whose decisions need no attribute.

    Parameters
    ----------
    at_test
        ``known``: a row is decided by the threshold of its group. ``inferred`` and ``merged``:
        see `evenhand.methods.attribute_free.choose_without_attribute`, which takes ``features``,
        ``head`` and ``seed``.
    scores, labels, groups, patients, aim, value, confidence
        As for `choose_thresholds`.
    """
    if at_test == "known":
        chosen = choose_thresholds(
            scores, labels, groups,
            patients=patients, aim=aim, value=value, confidence=confidence,
        )  # fmt: skip
        return chosen.settled(scores)
    from evenhand.methods.attribute_free import choose_without_attribute

    if features is None:
        raise EvenhandError(
            f"thresholds with at_test={at_test} infer the group from a model's features, and there "
            "are none: give a run with a model (on arrays: features=), or at_test=known."
        )
    return choose_without_attribute(
        scores, features, labels, groups, at_test,
        patients=patients, head=head, aim=aim, value=value, confidence=confidence, seed=seed,
    )  # fmt: skip


def positives_needed(value: float, tail: float) -> int:
    """Return the smallest number of positive patients that can guarantee a sensitivity.

    If all n patients are found, the one-sided lower bound is tail^(1/n).

    Examples
    --------
    >>> positives_needed(0.9, 0.05)
    29
    """
    return math.ceil(math.log(tail) / math.log(value) - 1e-9)


def _choose(score: Floats, rows: Rows, aim: Aim, value: float, tail: float) -> GroupThreshold:
    if aim == "net-benefit":
        return _best_benefit(score, rows.labels, value)
    best = patient_scores(score, rows)  # (P,) sorted, rising
    if aim == "equal-sensitivity":
        rank = len(best) - math.ceil(value * len(best) - 1e-9)  # patients that may be missed
        return GroupThreshold(float(best[rank]), len(best), float((best >= best[rank]).mean()))
    return promised_threshold(best, value, tail)


def patient_scores(score: Floats, rows: Rows) -> Floats:
    """Return the highest score among each positive patient's positive rows, sorted."""
    positive = rows.labels == 1
    best = np.full(rows.patients.max() + 1, -np.inf)
    np.maximum.at(best, rows.patients[positive], score[positive])
    return np.sort(best[best > -np.inf])


def promised_threshold(best: Floats, value: float, tail: float) -> GroupThreshold:
    """Choose the highest patient score at which the sensitivity's lower bound reaches ``value``."""
    from scipy.stats import beta  # takes half a second to import

    count = len(best)
    missed = np.arange(count)  # with the threshold at best[r], at most r patients are missed
    bounds = np.asarray(beta.ppf(tail, count - missed, missed + 1))
    enough = np.flatnonzero(bounds >= value)
    rank = int(enough[-1]) if len(enough) else 0
    return GroupThreshold(
        threshold=float(best[rank]),
        positives=count,
        achieved=float((best >= best[rank]).mean()),
        bound=float(bounds[rank]),
        promised=bool(len(enough)),
        needed=positives_needed(value, tail),
    )


def _best_benefit(score: Floats, labels: NDArray[np.int64], value: float) -> GroupThreshold:
    """Choose the score with the largest TP/n − FP/n · value/(1 − value), the highest of equals."""
    order = np.argsort(-score, kind="stable")
    falling, positive = score[order], labels[order] == 1
    is_last_of_score = np.append(falling[1:] != falling[:-1], True)
    odds = value / (1 - value)
    benefit = (np.cumsum(positive) - odds * np.cumsum(~positive))[is_last_of_score] / len(labels)
    if benefit.max() <= 0:  # flagging no row is at least as good
        above = float(np.nextafter(falling[0], math.inf))
        return GroupThreshold(above, int(positive.sum()), 0.0)
    best = int(np.argmax(benefit))
    return GroupThreshold(
        float(falling[is_last_of_score][best]), int(positive.sum()), float(benefit[best])
    )


METHOD = PostHoc(
    fit_thresholds,
    takes="scores",
    groups="one",
    needs="Needs the attribute to fit; to decide, too, unless at_test=inferred or merged, which "
    "need a run with a model.",
    source="Hardt, Price & Srebro, NeurIPS 2016; without the attribute: OxonFair, arXiv 2407.13710",
)
