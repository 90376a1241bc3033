"""Sections of a page, and the one list of all sections that there are.

A module of `evenhand.reporting.sections` registers its section with `section`; its template has the
section's name, or one that it names. The pages of `assess` and `benchmark` are made of parts, whose
one template is `PART`. Nothing else needs to know of a section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

Page = Literal["report", "check", "similarity", "assess", "benchmark"]
"""The pages: a report on models, a check of data, a comparison of two models' layers, an
assessment, a benchmark."""

PART = "part.html"
"""The template of a `Part`: answers, sentences, charts and tables."""

B = TypeVar("B", bound=Callable[[Any], Any])


@dataclass(frozen=True)
class Section:
    """One section of a page.

    Attributes
    ----------
    name, title
        The anchor that links point to, and the heading.
    template
        The file name of the template, which reads the data as ``view``.
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
    """A registered section: where it stands, and how it is built from the data of its page.

    Attributes
    ----------
    page, place
        The page, and the order of the section on it: sections are sorted by place.
    name, title
        The section's; a title that depends on the page's data is a function of them.
    build
        Returns the section's data; the section is left out where they are empty or None.
    script
        The section's.
    template
        The section's; by default the file of the section's name.
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
        """Yield the section of a page's data, where there is something to show."""
        if view := self.build(data):
            title = self.title if isinstance(self.title, str) else self.title(data)
            yield Section(self.name, title, self.file, view, self.script)


@dataclass(frozen=True)
class IncludedPage:
    """The sections of one page on another, the first with a number before its title.

    Attributes
    ----------
    page, place
        The page that has them, and the place of all of them on it.
    included
        The page whose sections they are.
    data_of
        Returns the data of the included page from those of the page.
    number
        What is put before the title of the first.
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
    """Register the decorated function as the one that builds a section; see `SectionKind`.

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
    """Put the sections of one page on another; see `IncludedPage`."""
    SECTIONS[page, included] = IncludedPage(page, place, included, data_of, number)


def sections_of(page: Page, data: Any) -> tuple[Section, ...]:
    """Return the sections of a page that apply to its data, in order."""
    _load()
    kinds = sorted((kind for kind in SECTIONS.values() if kind.page == page), key=_place)
    return tuple(section for kind in kinds for section in kind.sections(data))


def _place(kind: SectionKind | IncludedPage) -> int:
    return kind.place


@cache
def _load() -> None:
    """Import every module of the folder of sections, so that each registers its own."""
    package = import_module("evenhand.reporting.sections")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
