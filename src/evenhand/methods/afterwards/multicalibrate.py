"""Multicalibration: test and repair calibration in many segments of the patients at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import logit, scores_of
from evenhand.methods.offset_logistic import fit_offset_logistic

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]

LEAST = 20
"""Least patients of a segment that is looked at."""
DRAWS = 1000
TINY = 1e-300


@dataclass(frozen=True)
class SegmentTest:
    """Calibration of one segment.

    Attributes
    ----------
    segment
        Its name (``"sex=female"``).
    error
        Mean label less mean score, in its rows.
    standard_error
        Of that, with patients as the units.
    p_adjusted
        For "the segment is calibrated", adjusted over all segments (max-t).
    patients
        How many it holds.
    """

    segment: str
    error: float
    standard_error: float
    p_adjusted: float
    patients: int


@dataclass(frozen=True)
class Multicalibrated:
    """A shift in log-odds for each segment.

    Attributes
    ----------
    shifts
        By segment; a row gets the sum of those of its segments.
    before, after
        The tests of the rows that the shifts were fitted on, without and with them.
    """

    shifts: Mapping[str, float]
    before: tuple[SegmentTest, ...]
    after: tuple[SegmentTest, ...]

    def apply(self, scores: ArrayLike, attributes: pd.DataFrame) -> Floats:
        """Return new probabilities ``(n,)`` of rows with these attributes."""
        score = scores_of(scores, len(attributes))
        moved = logit(score)
        for name, mask in segments_of(attributes, least=0).items():
            moved = moved + self.shifts.get(name, 0.0) * mask
        new: Floats = expit(moved)
        return new


def segments_of(
    attributes: pd.DataFrame, *, depth: int = 2, least: int = LEAST
) -> dict[str, Masks]:
    """Return the segments that combinations of attributes make, as masks ``(n,)``.

    Parameters
    ----------
    attributes
        One row for each sample, one column for each attribute. Missing values are ``"unknown"``.
    depth
        How many attributes are combined at most.
    least
        Rows that a segment must have.

    Examples
    --------
    >>> table = pd.DataFrame({"sex": ["f", "m", "f"], "age": ["old", "old", "young"]})
    >>> list(segments_of(table, depth=1, least=1))
    ['everybody', 'sex=f', 'sex=m', 'age=old', 'age=young']
    """
    table = attributes.astype(object).where(attributes.notna(), "unknown").astype(str)
    masks = {"everybody": np.ones(len(table), dtype=bool)}
    for size in range(1, depth + 1):
        for names in combinations(table.columns, size):
            named = [name + "=" + table[name] for name in names]
            segment = np.array([", ".join(parts) for parts in zip(*named, strict=True)])
            levels, counts = np.unique(segment, return_counts=True)
            masks |= {level: segment == level for level in levels[counts >= max(1, least)].tolist()}
    return masks


def check_segments(
    scores: ArrayLike,
    labels: ArrayLike,
    segments: Mapping[str, Masks],
    *,
    patients: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[SegmentTest, ...]:
    """Test the calibration of every segment; p-values are adjusted over all of them.

    Parameters
    ----------
    scores, labels, patients
        ``(n,)`` each.
    segments
        Masks ``(n,)`` by name.
    draws
        How often the patients' signs are drawn.
    seed
        Draws the signs.

    Returns
    -------
    tuple
        A test for each segment with at least 20 patients.

    Raises
    ------
    EvenhandError
        Arrays do not fit.

    Notes
    -----
    With r_p the sum of label − score over a patient's rows in a segment, the statistic is
    |sum_p r_p| / sqrt(sum_p r_p²). Its null distribution is that of the largest one over all
    segments when each patient's sign is drawn anew (multiplier bootstrap: Chernozhukov,
    Chetverikov & Kato, Ann. Stat. 2013, here with Rademacher multipliers, which hold in small
    segments, too).
    """
    label = np.asarray(labels, dtype=np.float64)
    residual = label - scores_of(scores, len(label))
    codes = _codes(patients, len(label))
    looked_at = {name: mask for name, mask in segments.items() if _patients(codes, mask) >= LEAST}
    if not looked_at:
        return ()
    count = codes.max() + 1
    sums = np.stack(
        [np.bincount(codes[m], residual[m], count) for m in looked_at.values()]
    )  # (S, P)
    held = np.stack([np.bincount(codes[m], minlength=count) > 0 for m in looked_at.values()])
    total, patients_in = sums.sum(axis=1), held.sum(axis=1)
    scaled = sums / np.sqrt(np.maximum((sums**2).sum(axis=1), TINY))[:, None]
    signs = np.random.default_rng(seed).integers(2, size=(draws, count)) * 2.0 - 1.0
    largest = np.abs(signs @ scaled.T).max(axis=1)  # (draws,)
    p = (1 + (largest >= np.abs(scaled.sum(axis=1))[:, None]).sum(axis=1)) / (1 + draws)
    spread = np.sqrt(((sums - held * (total / patients_in)[:, None]) ** 2).sum(axis=1))
    rows = np.array([mask.sum() for mask in looked_at.values()])
    return tuple(
        SegmentTest(name, float(total[k] / rows[k]), float(spread[k] / rows[k]), float(p[k]), n)
        for k, (name, n) in enumerate(zip(looked_at, patients_in.tolist(), strict=True))
    )


def _codes(patients: ArrayLike | None, count: int) -> NDArray[np.intp]:
    if patients is None:
        return np.arange(count)
    return np.unique(np.asarray(patients), return_inverse=True)[1]


def _patients(codes: NDArray[np.intp], mask: Masks) -> int:
    return len(np.unique(codes[mask]))


def multicalibrate(
    scores: ArrayLike,
    labels: ArrayLike,
    attributes: pd.DataFrame,
    *,
    patients: ArrayLike | None = None,
    depth: int = 2,
    ridge: float = 1.0,
    seed: int = 0,
) -> Multicalibrated:
    """Shift scores in log-odds so that every segment of the attributes is calibrated.

    Parameters
    ----------
    scores, labels, patients
        ``(n,)`` each.
    attributes
        ``(n,)`` rows; segments are the combinations of its columns.
    depth
        How many attributes are combined at most.
    ridge
        Strength of the penalty on the shifts: a segment of few rows is moved little.
    seed
        Draws the signs of the tests.

    Raises
    ------
    EvenhandError
        Arrays do not fit, or there is one class only.

    Notes
    -----
    With fixed segments, boosting until no segment is miscalibrated (Hébert-Johnson et al., ICML
    2018) has a closed target: the logistic regression on the segments with the score's log-odds
    as offset, whose fit makes mean label and mean score equal in every segment.
    """
    label = np.asarray(labels)
    score = scores_of(scores, len(label))
    if len(attributes) != len(label):
        raise EvenhandError(f"{len(attributes)} rows of attributes for {len(label)} labels.")
    if len(np.unique(label)) < 2:
        raise EvenhandError("all rows have the same label; calibration cannot be fitted.")
    segments = segments_of(attributes, depth=depth)
    table = np.stack(list(segments.values()), axis=1).astype(np.float64)
    weights = fit_offset_logistic(table, label.astype(np.int64), logit(score), ridge)
    new = expit(logit(score) + table @ weights)
    return Multicalibrated(
        shifts=dict(zip(segments, weights.tolist(), strict=True)),
        before=check_segments(score, label, segments, patients=patients, seed=seed),
        after=check_segments(new, label, segments, patients=patients, seed=seed),
    )


METHOD = multicalibrate
