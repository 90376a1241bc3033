"""Second derivatives of the loss by group, on the diagonal: one file per estimator."""

from evenhand.pruning.curvature.check import check_squares
from evenhand.pruning.curvature.estimators import (
    ESTIMATORS,
    Curvature,
    Estimator,
    GroupBatch,
    find_estimator,
)

__all__ = ["ESTIMATORS", "Curvature", "Estimator", "GroupBatch", "check_squares", "find_estimator"]
