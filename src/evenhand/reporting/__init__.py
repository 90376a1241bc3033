"""The report: metric rows in, one HTML page out."""

from evenhand.reporting.card import model_card
from evenhand.reporting.page import render, render_table
from evenhand.reporting.report import (
    Pruning,
    Report,
    Samples,
    Search,
    UnitShare,
    detectable_differences,
)
from evenhand.reporting.sections.answers import verdicts_of

__all__ = [
    "Pruning",
    "Report",
    "Samples",
    "Search",
    "UnitShare",
    "detectable_differences",
    "model_card",
    "render",
    "render_table",
    "verdicts_of",
]
