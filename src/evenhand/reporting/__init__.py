"""The report: metric rows in, one HTML page out."""

from evenhand.reporting.card import model_card
from evenhand.reporting.page import Report, Samples, render, verdicts_of
from evenhand.reporting.sections.pruning import Pruning
from evenhand.reporting.sections.search import Search
from evenhand.reporting.sections.units import UnitShare

__all__ = [
    "Pruning",
    "Report",
    "Samples",
    "Search",
    "UnitShare",
    "model_card",
    "render",
    "verdicts_of",
]
