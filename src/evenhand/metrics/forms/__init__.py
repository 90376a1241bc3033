"""Forms: the summaries of a group's rows that metrics are computed from, for many resamples."""

from evenhand.metrics.forms.additive import (
    Additive,
    BinPairs,
    BinSums,
    Cells,
    Confusion,
    Mean,
    bin_pairs,
    bins,
    cells,
    confusion,
    rowwise,
)
from evenhand.metrics.forms.curve import Curve, curve
from evenhand.metrics.forms.logistic import Logistic, LogisticFit
from evenhand.metrics.forms.looped import Repeated, looped
from evenhand.metrics.forms.pairs import MannWhitney, Pairs, Scan, pairs, transposed_weights

__all__ = [
    "Additive",
    "BinPairs",
    "BinSums",
    "Cells",
    "Confusion",
    "Curve",
    "Logistic",
    "LogisticFit",
    "MannWhitney",
    "Mean",
    "Pairs",
    "Repeated",
    "Scan",
    "bin_pairs",
    "bins",
    "cells",
    "confusion",
    "curve",
    "looped",
    "pairs",
    "rowwise",
    "transposed_weights",
]
