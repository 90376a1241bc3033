"""Empirical risk minimisation: the method that does nothing."""

from evenhand.methods.base import TrainingMethod

METHOD = TrainingMethod
