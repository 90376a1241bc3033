"""Audit: predictions in, metric rows and a report out."""
