"""Parts: the content of sections that consist of answers, sentences, plots and tables."""

from __future__ import annotations

from dataclasses import dataclass

from evenhand.reporting.charts.forest import Forest
from evenhand.reporting.charts.lines import LineChart
from evenhand.reporting.charts.scatter import Scatter
from evenhand.reporting.section import Section


@dataclass(frozen=True)
class AnswerBox:
    """The answer to one question, shown in a box.

    Attributes
    ----------
    topic
        What it is about.
    outcome
        ``better``, ``worse`` or ``unsure``, which decide the colour.
    chip
        The outcome as a short text.
    headline, details
        The answer as a sentence, and further sentences.
    """

    topic: str
    outcome: str
    chip: str
    headline: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of texts; the first cell of each row is the name of the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Part:
    """The content of a section, from top to bottom."""

    answers: tuple[AnswerBox, ...] = ()
    sentences: tuple[str, ...] = ()
    plots: tuple[Forest, ...] = ()
    scatters: tuple[Scatter, ...] = ()
    charts: tuple[LineChart, ...] = ()
    tables: tuple[Table, ...] = ()
    hidden: tuple[HiddenPart, ...] = ()


@dataclass(frozen=True)
class HiddenPart:
    """A part that the page hides until the reader clicks on its summary (HTML ``details``)."""

    summary: str
    part: Part


def part_section(name: str, title: str, part: Part) -> Section:
    """Return a part as a section of a page."""
    return Section(name, title, "part.html", part)
