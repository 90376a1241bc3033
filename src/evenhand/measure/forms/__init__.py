"""What metrics are computed from: one summary of a group's rows for many resamples at once."""

from evenhand.measure.forms.cells import Cells, cells
from evenhand.measure.forms.pairs import Pairs, pairs
from evenhand.measure.forms.rowwise import Mean, rowwise

__all__ = ["Cells", "Mean", "Pairs", "cells", "pairs", "rowwise"]
