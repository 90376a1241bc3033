"""Multicalibration: test and repair calibration in many segments of the patients at once.

Misleads if taken for a better ranking: within a segment the order of patients and the AUC do not
change. Small segments are shifted little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import (
    Count,
    Floats,
    Positive,
    check_rows,
    check_scores,
    group_names,
    logit,
)
from evenhand.methods.offset_logistic import fit_offset_logistic
from evenhand.methods.post_hoc import AttributeNeed, PostHoc

Masks = NDArray[np.bool_]

LEAST = 20
"""Smallest number of patients of a segment that is tested."""
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
        Mean label minus mean score of its rows.
    standard_error
        Standard error of ``error``, with patients as the units.
    p_adjusted
        p-value of "the segment is calibrated", adjusted over all segments (max-t).
    patients
        Number of its patients.
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
        Segment → shift; a row gets the sum of the shifts of its segments.
    attributes
        The attributes whose combinations are the segments.
    depth
        The largest number of attributes that are combined.
    before, after
        Tests on the rows that the shifts were fitted on, without and with the shifts. ``after`` is
        too optimistic: test other patients with `check_segments`.
    """

    shifts: Mapping[str, float]
    attributes: tuple[str, ...]
    depth: int
    before: tuple[SegmentTest, ...]
    after: tuple[SegmentTest, ...]

    @property
    def attribute(self) -> AttributeNeed:
        """Return ``yes``: scoring needs the attributes."""
        return "yes"

    def apply(self, scores: ArrayLike, attributes: pd.DataFrame) -> Floats:
        """Return new probabilities ``(n,)`` of rows with these attributes.

        Raises
        ------
        EvenhandError
            If an attribute of the fit is missing, or if the scores do not fit.
        """
        absent = [name for name in self.attributes if name not in attributes]
        if absent:
            raise EvenhandError(
                f"the shifts were fitted on {', '.join(self.attributes)}; the table has no column "
                f"{', '.join(absent)}. Add it; missing values are allowed."
            )
        score = check_scores(scores, len(attributes))
        log_odds = logit(score)
        columns = attributes[list(self.attributes)]  # their order is part of a segment's name
        for name, mask in segments_of(columns, depth=self.depth, least=1).items():
            log_odds = log_odds + self.shifts.get(name, 0.0) * mask
        new: Floats = expit(log_odds)
        return new


def segments_of(
    attributes: pd.DataFrame, *, depth: int = 2, least: int = LEAST
) -> dict[str, Masks]:
    """Return every segment of rows that share levels of some attributes, as masks ``(n,)``.

    Parameters
    ----------
    attributes
        One row for each sample, one column for each attribute. Missing values are ``"unknown"``.
    depth
        The largest number of attributes that are combined.
    least
        Smallest number of rows of a returned segment.

    Examples
    --------
    >>> table = pd.DataFrame({"sex": ["f", "m", "f"], "age": ["old", "old", "young"]})
    >>> list(segments_of(table, depth=1, least=1))
    ['everybody', 'sex=f', 'sex=m', 'age=old', 'age=young']
    """
    table = pd.DataFrame({str(name): group_names(column) for name, column in attributes.items()})
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
        Number of draws of the patients' signs.
    seed
        Seed of the signs.

    Returns
    -------
    tuple
        A test for each segment with at least 20 patients.

    Raises
    ------
    EvenhandError
        If arrays do not fit.

    Notes
    -----
    With r_p the sum of label − score over a patient's rows in a segment, the statistic is
    |sum_p r_p| / sqrt(sum_p r_p²). It is compared with the largest statistic over all segments
    after multiplying each r_p by a random sign (multiplier bootstrap: Chernozhukov, Chetverikov &
    Kato, Ann. Stat. 2013; Rademacher multipliers are also valid in small segments).
    """
    label = np.asarray(labels, dtype=np.float64)
    residual = label - check_scores(scores, len(label))
    ids = np.arange(len(label)) if patients is None else np.asarray(patients)
    codes = np.unique(ids, return_inverse=True)[1]
    large_enough = {
        name: mask for name, mask in segments.items() if len(np.unique(codes[mask])) >= LEAST
    }
    if not large_enough:
        return ()
    count = codes.max() + 1
    sums = np.stack(
        [np.bincount(codes[m], residual[m], count) for m in large_enough.values()]
    )  # (S, P)
    present = np.stack([np.bincount(codes[m], minlength=count) > 0 for m in large_enough.values()])
    total, patients_in = sums.sum(axis=1), present.sum(axis=1)
    scaled = sums / np.sqrt(np.maximum((sums**2).sum(axis=1), TINY))[:, None]
    signs = np.random.default_rng(seed).integers(2, size=(draws, count)) * 2.0 - 1.0
    largest = np.abs(signs @ scaled.T).max(axis=1)  # (draws,)
    p = (1 + (largest >= np.abs(scaled.sum(axis=1))[:, None]).sum(axis=1)) / (1 + draws)
    spread = np.sqrt(((sums - present * (total / patients_in)[:, None]) ** 2).sum(axis=1))
    rows = np.array([mask.sum() for mask in large_enough.values()])
    return tuple(
        SegmentTest(name, float(total[k] / rows[k]), float(spread[k] / rows[k]), float(p[k]), n)
        for k, (name, n) in enumerate(zip(large_enough, patients_in.tolist(), strict=True))
    )


def multicalibrate(
    scores: ArrayLike,
    labels: ArrayLike,
    attributes: pd.DataFrame,
    *,
    patients: ArrayLike | None = None,
    depth: Count = 2,
    ridge: Positive = 1.0,
    seed: int = 0,
) -> Multicalibrated:
    """Shift scores in log-odds so that every segment of the attributes is calibrated.

    Parameters
    ----------
    scores, labels, patients
        ``(n,)`` each.
    attributes
        A table of n rows; segments are combinations of levels of its columns.
    depth
        The largest number of attributes that are combined.
    ridge
        Strength of the penalty on the shifts: a segment of few rows is shifted little.
    seed
        Seed of the tests' random signs.

    Raises
    ------
    EvenhandError
        If arrays do not fit, labels are not 0 and 1, or only one label occurs.

    Notes
    -----
    Multicalibration boosts until no segment is miscalibrated (Hébert-Johnson et al., ICML 2018).
    With fixed segments its limit is a logistic regression on the segments with the score's log-odds
    as offset: without a penalty, mean label and mean score are equal in every segment.
    """
    rows = check_rows(labels, np.full(np.shape(labels), "everybody"), patients)
    label, patients = rows.labels, rows.patients
    score = check_scores(scores, len(rows))
    if len(attributes) != len(rows):
        raise EvenhandError(f"{len(attributes)} rows of attributes for {len(rows)} labels.")
    segments = segments_of(attributes, depth=depth)
    table = np.stack(list(segments.values()), axis=1).astype(np.float64)
    weights = fit_offset_logistic(table, label, logit(score), ridge)
    new = expit(logit(score) + table @ weights)
    return Multicalibrated(
        shifts=dict(zip(segments, weights.tolist(), strict=True)),
        attributes=tuple(map(str, attributes.columns)),
        depth=depth,
        before=check_segments(score, label, segments, patients=patients, seed=seed),
        after=check_segments(new, label, segments, patients=patients, seed=seed),
    )


METHOD = PostHoc(
    multicalibrate,
    takes="scores",
    groups="table",
    needs="Needs the attributes to fit and to score.",
    source="Hébert-Johnson et al., ICML 2018, with fixed segments",
)
