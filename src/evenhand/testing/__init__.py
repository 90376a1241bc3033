"""Contracts: test classes for the authors of plug-ins, which Evenhand's own tests use, too.

Each class tests what every metric, reader, strategy … must fulfil. Inherit it in a test module of
your own, name your plug-in, and let pytest collect the class::

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
