"""Predictions in, metric rows and a report out."""
