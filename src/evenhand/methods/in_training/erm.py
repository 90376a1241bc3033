"""Empirical risk minimisation: the method that does nothing.

Misleads as a baseline with fewer trials or epochs than the methods that it is compared with.
"""

from evenhand.methods.base import TrainingMethod

METHOD = TrainingMethod
