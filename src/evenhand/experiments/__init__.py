"""Fits: tasks, settings, lineage."""
