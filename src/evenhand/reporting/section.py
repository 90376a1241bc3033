"""Sections of pages, the parts that they consist of, and the registry of all sections.

A module of `evenhand.reporting.sections` registers its section with `section`. The template of a
section has the name of the section, or the name that the section gives. The sections of `assess`
and `benchmark` are parts (`evenhand.reporting.section`), with the template `PART`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

from evenhand.reporting.charts.forest import Forest
from evenhand.reporting.charts.lines import LineChart
from evenhand.reporting.charts.scatter import Scatter

Page = Literal["report", "check", "similarity", "assess", "benchmark"]
"""The pages: the report on models, the check of a data set, the comparison of the layers of two
models, the assessment, the benchmark."""

PART = "part.html"
"""The template of a `evenhand.reporting.section.Part`."""

B = TypeVar("B", bound=Callable[[Any], Any])


@dataclass(frozen=True)
class Section:
    """One section of a page.

    Attributes
    ----------
    name, title
        The anchor for links, and the heading.
    template
        The file name of the template; in it the data are called ``view``.
    view
        The data that the template shows.
    script
        The file name of a script that the section needs, or "".
    """

    name: str
    title: str
    template: str
    view: Any
    script: str = ""


@dataclass(frozen=True)
class SectionKind:
    """A registered section: its place, and how it is built from the data of its page.

    Attributes
    ----------
    page, place
        The page, and the position on it: sections are sorted by place.
    name, title
        As in `Section`; a title that depends on the data of the page is a function of these data.
    build
        Function of the data of the page; returns the data of the section. If they are empty or
        None the section is left out.
    script
        As in `Section`.
    template
        As in `Section`; by default the file with the name of the section.
    """

    page: Page
    place: int
    name: str
    title: str | Callable[[Any], str]
    build: Callable[[Any], Any]
    script: str = ""
    template: str = ""

    @property
    def file(self) -> str:
        """The file name of the template."""
        return self.template or f"{self.name}.html"

    def sections(self, data: Any) -> Iterator[Section]:
        """Yield the section for the data of a page, unless it is left out."""
        if view := self.build(data):
            title = self.title if isinstance(self.title, str) else self.title(data)
            yield Section(self.name, title, self.file, view, self.script)


@dataclass(frozen=True)
class IncludedPage:
    """All sections of one page, as sections of another page.

    Attributes
    ----------
    page, place
        The page that includes them, and their position on it.
    included
        The page that is included.
    data_of
        Function of the data of the page; returns the data of the included page.
    number
        A number that precedes the title of the first section.
    """

    page: Page
    place: int
    included: Page
    data_of: Callable[[Any], Any]
    number: str

    def sections(self, data: Any) -> Iterator[Section]:
        """Yield the sections of the included page."""
        included = sections_of(self.included, self.data_of(data))
        for first in included[:1]:
            yield replace(first, title=f"{self.number} {first.title}")
        yield from included[1:]


SECTIONS: dict[tuple[Page, str], SectionKind | IncludedPage] = {}


def section(
    page: Page,
    name: str,
    title: str | Callable[[Any], str],
    *,
    place: int,
    script: str = "",
    template: str = "",
) -> Callable[[B], B]:
    """Register a section; the decorated function builds its data (see `SectionKind`).

    Examples
    --------
    >>> @section("check", "rows", "How many rows", place=90)
    ... def count_rows(record):
    ...     return record.counts
    >>> SECTIONS.pop(("check", "rows")).title
    'How many rows'
    """

    def register(build: B) -> B:
        SECTIONS[page, name] = SectionKind(page, place, name, title, build, script, template)
        return build

    return register


def include_page(
    page: Page, included: Page, data_of: Callable[[Any], Any], *, place: int, number: str
) -> None:
    """Register all sections of one page as sections of another page (see `IncludedPage`)."""
    SECTIONS[page, included] = IncludedPage(page, place, included, data_of, number)


def sections_of(page: Page, data: Any) -> tuple[Section, ...]:
    """Return the sections that a page has for its data, in order."""
    _load()
    kinds = sorted((kind for kind in SECTIONS.values() if kind.page == page), key=_place)
    return tuple(section for kind in kinds for section in kind.sections(data))


def _place(kind: SectionKind | IncludedPage) -> int:
    return kind.place


@cache
def _load() -> None:
    """Import every module of the folder of sections, which registers its sections."""
    package = import_module("evenhand.reporting.sections")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


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
