"""Empirical risk minimisation: the method that does nothing.

Misleads as a baseline that had fewer trials or epochs than the methods it is compared with.
"""

from evenhand.methods.base import TrainingMethod

METHOD = TrainingMethod
