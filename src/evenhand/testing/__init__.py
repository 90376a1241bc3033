"""Contracts: test classes that the author of a plug-in inherits, and that our own tests use.

Each states the laws that every metric, reader, strategy and so on keeps. Inherit one in a test
module of yours, name what is tested, and let pytest collect it::

    from evenhand.testing import MetricContract

    class TestMine(MetricContract):
        name = "mine"
"""

from evenhand.testing.contracts import (
    BackboneContract,
    EstimatorContract,
    MethodContract,
    MetricContract,
    ObjectiveContract,
    ReaderContract,
    StrategyContract,
)

__all__ = [
    "BackboneContract",
    "EstimatorContract",
    "MethodContract",
    "MetricContract",
    "ObjectiveContract",
    "ReaderContract",
    "StrategyContract",
]
