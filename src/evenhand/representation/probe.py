"""Measure how well a logistic regression, a probe, predicts a protected attribute from features."""

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
from evenhand.representation.jackknife import JackknifeEstimate

FOLDS = 5
CHANCE = 0.5


def measure_probe(
    features: Floats,
    attribute: NDArray[np.intp],
    strata: NDArray[np.intp],
    patients: NDArray[np.intp],
    seed: int,
) -> JackknifeEstimate:
    """Return the AUC of a probe for each of k levels of an attribute, ``(k,)``.

    Parameters
    ----------
    features
        ``(n, d)``, one row per sample.
    attribute, strata, patients
        ``(n,)`` codes from 0: level, stratum and patient of each row.
    seed
        Seed of the folds.

    Returns
    -------
    JackknifeEstimate
        The share of correctly ordered pairs. A pair is a row of the level and a row of another
        level, in the same fold and stratum. A patient's influence is the change if the patient's
        pairs are left out; the probes are not trained again.

    Notes
    -----
    A probe is a logistic regression on standardised features. The patients that it scores are not
    among those that it is trained on.
    """
    levels = int(attribute.max()) + 1
    correct = np.zeros((levels, len(attribute)))
    pairs = np.zeros((levels, len(attribute)))
    for test, scores in _score_folds(features, attribute, patients, seed):
        for stratum in np.unique(strata[test]):
            inside = strata[test] == stratum
            rows = test[inside]
            for level in range(levels):
                member = attribute[rows] == level
                counts = _placements(scores[inside, level], member)
                correct[level, rows], pairs[level, rows] = counts
    sums = np.zeros((2, int(patients.max()) + 1, levels))
    for level in range(levels):
        np.add.at(sums[0, :, level], patients, correct[level])
        np.add.at(sums[1, :, level], patients, pairs[level])
    return _ratio(sums[0], sums[1])


def _score_folds(
    features: Floats, attribute: NDArray[np.intp], patients: NDArray[np.intp], seed: int
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Yield the rows of each fold, and their probability of each level by a probe of the others."""
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
    """Return the number of correctly ordered pairs of each row, and of all pairs of each row."""
    ranks = rankdata(scores)
    below = ranks.copy()
    for part in (member, ~member):
        below[part] -= rankdata(scores[part])  # rows of the other part with lower scores
    others = np.where(member, np.count_nonzero(~member), np.count_nonzero(member))
    return np.where(member, below, others - below), others.astype(np.float64)


def _ratio(correct: Floats, pairs: Floats) -> JackknifeEstimate:
    """Return the share of correct pairs ``(k,)`` from counts by patient ``(m, k)``.

    Each pair is counted twice, once for each of its rows.
    """
    total_correct, total = correct.sum(axis=0) / 2, pairs.sum(axis=0) / 2
    if not total.all():
        raise EvenhandError(
            "no two rows of one fold and one value of given= differ in the attribute, so there is "
            "no pair to compare. Give more rows, or leave given= out."
        )
    value = total_correct / total
    remaining = total - pairs
    without = np.divide(
        total_correct - correct, remaining, out=np.tile(value, (len(pairs), 1)), where=remaining > 0
    )
    influence = (value - without) * np.sqrt(1 - 1 / len(pairs))
    return JackknifeEstimate(value, influence)


@dataclass(frozen=True)
class ProbeResult:
    """AUC with which a probe predicts an attribute.

    Attributes
    ----------
    value
        The mean AUC over the levels of the attribute; .5 is chance.
    low, high
        Its jackknife interval by patient.
    levels
        The AUC of each level against all other levels.
    level
        The nominal coverage of the interval.
    n, patients
        Number of rows, and number of patients.
    given
        Whether pairs share the value of ``given=``.
    jackknifed
        The value with each patient's influence.
    """

    value: float
    low: float
    high: float
    levels: dict[str, float]
    level: float
    n: int
    patients: int
    given: bool
    jackknifed: JackknifeEstimate = field(repr=False, compare=False)

    @property
    def finds(self) -> bool:
        """Whether the interval lies above chance."""
        return self.low > CHANCE

    def less(self, other: ProbeResult) -> ProbeDifference:
        """Return this AUC minus another, paired by patient.

        Raises
        ------
        EvenhandError
            If the two probes have different patients, rows or levels.
        """
        mine, others = self.jackknifed, other.jackknifed
        same = (self.n, self.levels.keys()) == (other.n, other.levels.keys())
        if not same or mine.influence.shape != others.influence.shape:
            raise EvenhandError(
                f"the probes are of {self.n} and {other.n} rows of {self.patients} and "
                f"{other.patients} patients; give both the same rows in the same order."
            )
        difference = mine.minus(others)
        low, high = map(float, difference.interval(self.level))
        if not mine.error and not others.error:  # both order every pair correctly
            low, high = min(low, self.low - other.high), max(high, self.high - other.low)
        return ProbeDifference(float(difference.value), low, high, self.level)


@dataclass(frozen=True)
class ProbeDifference:
    """The AUC of one probe minus that of another, on the same patients.

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
