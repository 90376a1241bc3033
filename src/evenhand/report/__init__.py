"""The report: metric rows in, one HTML page out."""

from evenhand.report.card import model_card
from evenhand.report.goals import Goal
from evenhand.report.page import Report, Samples, render, verdicts_of
from evenhand.report.pruning import Pruning
from evenhand.report.search import Search
from evenhand.report.units import UnitShare

__all__ = [
    "Goal",
    "Pruning",
    "Report",
    "Samples",
    "Search",
    "UnitShare",
    "model_card",
    "render",
    "verdicts_of",
]
