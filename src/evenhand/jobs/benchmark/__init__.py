"""Comparing methods and strategies on equal terms, on out-of-fold predictions."""
