"""How well a fresh probe finds an attribute in features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evenhand.errors import EvenhandError
from evenhand.metrics.registry import Floats
from evenhand.representation.jackknife import Jackknifed

FOLDS = 5
CHANCE = 0.5


def probed(
    features: Floats,
    attribute: NDArray[np.intp],
    strata: NDArray[np.intp],
    patients: NDArray[np.intp],
    seed: int,
) -> Jackknifed:
    """Return how well a probe tells each level of an attribute from the others, ``(k,)``.

    Parameters
    ----------
    features
        ``(n, d)``.
    attribute, strata, patients
        ``(n,)`` codes from 0: the level, what pairs must have in common, and the patient.
    seed
        Of the folds.

    Returns
    -------
    Jackknifed
        The share of pairs of rows, one of the level and one of another, that the probe orders
        rightly: an AUC over the pairs of one fold and one value of ``strata``. The influence is
        that of leaving a patient out of the pairs; the probes stay.

    Notes
    -----
    A probe is a logistic regression on standardised features, trained on other patients than those
    that it scores.
    """
    levels = int(attribute.max()) + 1
    right = np.zeros((levels, len(attribute)))
    pairs = np.zeros((levels, len(attribute)))
    for test, scores in _scored(features, attribute, patients, seed):
        for stratum in np.unique(strata[test]):
            cell = strata[test] == stratum
            rows = test[cell]
            for level in range(levels):
                member = attribute[rows] == level
                right[level, rows], pairs[level, rows] = _placements(scores[cell, level], member)
    of_patient = np.zeros((2, int(patients.max()) + 1, levels))
    for level in range(levels):
        np.add.at(of_patient[0, :, level], patients, right[level])
        np.add.at(of_patient[1, :, level], patients, pairs[level])
    return _ratio(of_patient[0], of_patient[1])


def _scored(
    features: Floats, attribute: NDArray[np.intp], patients: NDArray[np.intp], seed: int
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Yield the rows of each fold, and their probability of each level from the other folds."""
    levels = int(attribute.max()) + 1
    fewest = min(len(np.unique(patients[attribute == level])) for level in range(levels))
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    for train, test in folds.split(features, attribute, patients):
        missing = levels - len(np.unique(attribute[train]))
        if missing:
            raise EvenhandError(
                "a fold of the probe lacks a level of the attribute; each level needs more "
                "patients. Join small levels, or leave their rows out."
            )
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(features[train], attribute[train])
        yield test, probe.predict_proba(features[test])


def _placements(scores: Floats, member: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return, for each row, the pairs that it is in and that are in the right order, and all."""
    ranks = rankdata(scores)
    below = ranks.copy()
    for side in (member, ~member):
        below[side] -= rankdata(scores[side])  # rows of the other side with lower scores
    others = np.where(member, np.count_nonzero(~member), np.count_nonzero(member))
    return np.where(member, below, others - below), others.astype(np.float64)


def _ratio(right: Floats, pairs: Floats) -> Jackknifed:
    """Return right over all pairs ``(k,)``; both are sums over patients ``(m, k)``, pairs twice."""
    total_right, total = right.sum(axis=0) / 2, pairs.sum(axis=0) / 2
    if not total.all():
        raise EvenhandError(
            "no two rows of one fold and one value of given= differ in the attribute, so nothing "
            "can be told. Give more rows, or leave given= out."
        )
    value = total_right / total
    left = total - pairs
    without = np.divide(
        total_right - right, left, out=np.tile(value, (len(pairs), 1)), where=left > 0
    )
    influence = (value - without) * np.sqrt(1 - 1 / len(pairs))
    return Jackknifed(value, influence)


@dataclass(frozen=True)
class ProbeResult:
    """How well a probe finds an attribute.

    Attributes
    ----------
    value
        The AUC, mean over the levels of the attribute; .5 is chance.
    low, high
        Its interval, by leaving one patient out at a time.
    levels
        The AUC of each level against the others.
    level
        The nominal coverage of the interval.
    n, patients
        Rows and patients.
    strata
        Whether pairs have what was given in common.
    jackknifed
        The value with each patient's influence on it.
    """

    value: float
    low: float
    high: float
    levels: dict[str, float]
    level: float
    n: int
    patients: int
    given: bool
    jackknifed: Jackknifed = field(repr=False, compare=False)

    @property
    def finds(self) -> bool:
        """Whether the interval lies above chance."""
        return self.low > CHANCE

    def less(self, other: ProbeResult) -> ProbeDifference:
        """Return this value less another's, paired by patient: after a method less before it.

        Raises
        ------
        EvenhandError
            The two are of other patients, rows or levels.
        """
        mine, others = self.jackknifed, other.jackknifed
        same = (self.n, self.levels.keys()) == (other.n, other.levels.keys())
        if not same or mine.influence.shape != others.influence.shape:
            raise EvenhandError(
                f"the probes are of {self.n} and {other.n} rows of {self.patients} and "
                f"{other.patients} patients; give both the same rows in the same order."
            )
        difference = mine.less(others)
        low, high = map(float, difference.interval(self.level))
        if not mine.error and not others.error:  # both order every pair rightly
            low, high = min(low, self.low - other.high), max(high, self.high - other.low)
        return ProbeDifference(float(difference.value), low, high, self.level)


@dataclass(frozen=True)
class ProbeDifference:
    """The AUC of one probe less that of another, on the same patients.

    Attributes
    ----------
    value, low, high
        The difference, and its interval by patient.
    level
        The nominal coverage of the interval.
    """

    value: float
    low: float
    high: float
    level: float
