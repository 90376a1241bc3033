"""The report of a run: metric rows as one HTML page, as a model card, and as text."""

from evenhand.reporting.card import model_card
from evenhand.reporting.page import render, render_table
from evenhand.reporting.report import (
    ModelSamples,
    Pruning,
    Report,
    Search,
    UnitShare,
)
from evenhand.reporting.sections.answers import verdicts_of

__all__ = [
    "ModelSamples",
    "Pruning",
    "Report",
    "Search",
    "UnitShare",
    "model_card",
    "render",
    "render_table",
    "verdicts_of",
]
