"""A page of sections, each with a template of its own: what is no audit of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.experiments.records import RunRecord
from evenhand.reporting.page import template
from evenhand.reporting.sections.provenance import fact_tables
from evenhand.settings import Settings


@dataclass(frozen=True)
class Section:
    """One section of a page.

    Attributes
    ----------
    anchor, title
        What links to it, and its heading.
    template
        The file that shows it, which finds its data under the name ``view``.
    view
        What is shown.
    """

    anchor: str
    title: str
    template: str
    view: Any


def section_page(
    title: str, lede: str, sections: Sequence[Section], record: RunRecord[Settings]
) -> str:
    """Return a page of sections, with the record of the run at its end."""
    contents = [(section.anchor, section.title) for section in sections]
    return template("sections.html").render(
        title=title,
        lede=lede,
        sections=sections,
        contents=[*contents, ("provenance", "Settings and provenance")],
        facts=fact_tables(record),
        script="",
    )
