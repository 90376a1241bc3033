"""What metrics are computed from: one summary of a group's rows for many resamples at once."""

from evenhand.measure.forms.additive import Additive
from evenhand.measure.forms.bins import BinPairs, Bins, bin_pairs, bins
from evenhand.measure.forms.cells import Cells, cells
from evenhand.measure.forms.confusion import Confusion, confusion
from evenhand.measure.forms.curve import Curve, curve
from evenhand.measure.forms.logistic import Line, Logistic
from evenhand.measure.forms.looped import Repeated, looped
from evenhand.measure.forms.pairs import Pairs, pairs
from evenhand.measure.forms.rowwise import Mean, rowwise

__all__ = [
    "Additive",
    "BinPairs",
    "Bins",
    "Cells",
    "Confusion",
    "Curve",
    "Line",
    "Logistic",
    "Mean",
    "Pairs",
    "Repeated",
    "bin_pairs",
    "bins",
    "cells",
    "confusion",
    "curve",
    "looped",
    "pairs",
    "rowwise",
]
