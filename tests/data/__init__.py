"""Tiny files in each data set's real layout."""
