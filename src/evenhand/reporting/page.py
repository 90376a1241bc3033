"""Rendering of pages as HTML files that need no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from evenhand.experiments.records import RunRecord
from evenhand.reporting.report import Report
from evenhand.reporting.section import Section, sections_of
from evenhand.reporting.sections.answers import verdicts_of
from evenhand.reporting.sections.groups import group_tables
from evenhand.reporting.sections.provenance import Provenance, fact_tables
from evenhand.reporting.text.sentences import introduction
from evenhand.reporting.text.vocabulary import first_upper
from evenhand.settings import Settings


def render(report: Report) -> str:
    """Return a report as one HTML page that needs no network."""
    split = report.split if report.names_split else None
    text = introduction(report.single, split, report.patient, report.positive)
    return _page(report.title, text, sections_of("report", report), report)


def render_table(report: Report) -> str:
    """Return the numbers by group and the verdicts of a report as HTML for a notebook."""
    return _template("table.html").render(
        tables=group_tables(report), verdicts=verdicts_of(report), report=report
    )


def section_page(
    title: str, introduction: str, sections: Sequence[Section], record: RunRecord[Settings]
) -> str:
    """Return a page with some sections, and the record of the run as its last section."""
    facts = Provenance(fact_tables(record))
    last = Section("provenance", "Settings and provenance", "provenance.html", facts)
    return _page(title, introduction, (*sections, last))


def _page(title: str, introduction: str, sections: Sequence[Section], data: Any = None) -> str:
    script = "".join(
        map(_script, dict.fromkeys(section.script for section in sections if section.script))
    )
    return _template("sections.html").render(
        title=title,
        introduction=introduction,
        sections=sections,
        report=data,
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


@cache
def _script(name: str) -> str:
    """Return the text of a script; pages allow only scripts with the hash of this text."""
    script = resources.files("evenhand.reporting").joinpath(f"templates/{name}")
    return script.read_text("utf-8")


@cache
def _template(name: str) -> Template:
    """Return one of the report's templates."""
    environment = Environment(
        loader=PackageLoader("evenhand", "reporting/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["first_upper"] = first_upper
    return environment.get_template(name)
