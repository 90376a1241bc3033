"""Metrics of calibration: whether probabilities agree with observed frequencies."""

from __future__ import annotations

import numpy as np

from evenhand.metrics.forms import BinPairs, BinSums, Logistic, LogisticFit, bin_pairs, bins
from evenhand.metrics.registry import Floats, metric

HIERARCHY = "Van Calster et al., BMC Med. 2019"
BY_CHANCE = "chance alone moves bins off the diagonal, so resamples never come near 0"


@metric(
    "lower",
    ideal=0.0,
    needs="score",
    form=bins,
    source="Naeini et al., AAAI 2015; 10 equal bins",
    no_interval=BY_CHANCE,
)
def ece(cells: BinSums) -> Floats:
    """Mean distance (expected calibration error) of label and probability over bins.

    Misleads in small groups: with fewer samples chance raises it more, even for a calibrated model,
    so it has no interval. Compare groups by squared_calibration_error.
    """
    error: Floats = np.abs(cells.excess).sum(axis=1) / cells.count
    return error


@metric(
    "lower",
    ideal=0.0,
    needs="score",
    form=bin_pairs,
    share=False,
    source="Kumar et al., NeurIPS 2019, debiased; over pairs of patients; 10 equal bins",
)
def squared_calibration_error(pairs: BinPairs) -> Floats:
    """Mean squared distance of label and probability over bins, without bias; may be below 0.

    The square of a bin's mean distance is estimated by the mean product of the distances of two
    samples of different patients. If each patient has one sample, and all samples of the bin have
    the same probability, this is the debiased estimator of Kumar et al. Bins with a single patient
    are left out.

    Misleads where errors in opposite directions cancel within a bin. Its unit is the square of a
    probability.
    """
    defined = pairs.pairs > 0
    square = np.divide(pairs.product, pairs.pairs, out=np.zeros_like(pairs.pairs), where=defined)
    count = pairs.count * defined
    error: Floats = (count * square).sum(axis=1) / count.sum(axis=1)
    return error


@metric(
    "ideal",
    ideal=1.0,
    needs="score",
    form=Logistic(free_slope=True),
    requires=("positives", "negatives"),
    classes="two",
    share=False,
    source=HIERARCHY,
)
def calibration_slope(line: LogisticFit) -> Floats:
    """Slope of the label on the logit of the probability; below 1 the model is overconfident.

    Misleads alone: the slope can be 1 although all probabilities are too high. Read the intercept,
    too.
    """
    return line.slope


@metric(
    "ideal",
    ideal=0.0,
    needs="score",
    form=Logistic(free_slope=False),
    requires=("positives", "negatives"),
    classes="two",
    share=False,
    source=HIERARCHY,
)
def calibration_intercept(line: LogisticFit) -> Floats:
    """Intercept with the slope fixed at 1; above 0 the probabilities are too low on average.

    Misleads alone: it is 0 if probabilities that are too high and too low cancel. Read the slope,
    too.
    """
    return line.intercept
