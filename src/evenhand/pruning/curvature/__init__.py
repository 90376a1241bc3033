"""Diagonal of the loss's second derivative by group; each estimator is one file."""

from evenhand.pruning.curvature.check import check_squares, check_steady
from evenhand.pruning.curvature.types import Curvature, Estimator, GroupBatch
from evenhand.pruning.registry import ESTIMATORS, find_estimator

__all__ = [
    "ESTIMATORS",
    "Curvature",
    "Estimator",
    "GroupBatch",
    "check_squares",
    "check_steady",
    "find_estimator",
]
