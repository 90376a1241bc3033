"""Metrics of whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np

from evenhand.measure.forms import Bins, Line, Logistic, bins
from evenhand.measure.registry import Floats, metric

HIERARCHY = "Van Calster et al., BMC Med. 2019"


@metric(
    "lower", ideal=0.0, needs="score", form=bins, source="Naeini et al., AAAI 2015; 10 equal bins"
)
def ece(of: Bins) -> Floats:
    """Mean distance (expected calibration error) of label and probability over bins."""
    error: Floats = np.abs(of.excess).sum(axis=1) / of.count
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
def calibration_slope(line: Line) -> Floats:
    """Slope of the label on the logit of the probability; below 1 the model is too sure."""
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
def calibration_intercept(line: Line) -> Floats:
    """Intercept beside a slope of 1; above 0 the model says too little."""
    return line.intercept
