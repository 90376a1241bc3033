"""Mitigation methods on modules and arrays: one file a method."""
