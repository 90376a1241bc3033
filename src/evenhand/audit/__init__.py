"""Predictions in, metric rows and a report out."""

from evenhand.audit.rows import (
    Cut,
    cut_of,
    groups_in,
    matched,
    metric_rows,
    paired_rows,
    scored_rows,
)

__all__ = ["Cut", "cut_of", "groups_in", "matched", "metric_rows", "paired_rows", "scored_rows"]
