"""The estimators by name. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from evenhand.errors import pick
from evenhand.pruning.curvature.fisher import fisher
from evenhand.pruning.curvature.ggn import ggn
from evenhand.pruning.curvature.ggn_mc import ggn_mc
from evenhand.pruning.curvature.hutchinson import hutchinson
from evenhand.pruning.curvature.types import Curvature, Estimator, GroupBatch

__all__ = ["ESTIMATORS", "Curvature", "Estimator", "GroupBatch", "find_estimator"]

ESTIMATORS: Mapping[str, Estimator] = {
    "ggn-mc": ggn_mc,
    "ggn": ggn,
    "fisher": fisher,
    "hutchinson": hutchinson,
}


def find_estimator(name: str) -> Estimator:
    """Return an estimator by its name.

    Raises
    ------
    UnknownNameError
        There is none; the message lists those that there are.
    """
    return pick("estimator", name, ESTIMATORS)
