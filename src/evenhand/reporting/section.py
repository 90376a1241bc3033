"""Sections of a page, and the one list of all sections that there are.

A module of `evenhand.reporting.sections` registers its section with `section`; its template has the
section's name. Nothing else needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

Page = Literal["report", "check", "similarity"]
"""The pages: a report on models, a check of data, a comparison of two models' layers."""

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
    """

    page: Page
    place: int
    name: str
    title: str | Callable[[Any], str]
    build: Callable[[Any], Any]
    script: str = ""


SECTIONS: dict[tuple[Page, str], SectionKind] = {}


def section(
    page: Page, name: str, title: str | Callable[[Any], str], *, place: int, script: str = ""
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
        SECTIONS[page, name] = SectionKind(page, place, name, title, build, script)
        return build

    return register


def sections_of(page: Page, data: Any) -> tuple[Section, ...]:
    """Return the sections of a page that apply to its data, in order."""
    _load()
    kinds = sorted((kind for kind in SECTIONS.values() if kind.page == page), key=_place)
    built = ((kind, kind.build(data)) for kind in kinds)
    return tuple(_section(kind, view, data) for kind, view in built if view)


def _section(kind: SectionKind, view: Any, data: Any) -> Section:
    title = kind.title if isinstance(kind.title, str) else kind.title(data)
    return Section(kind.name, title, f"{kind.name}.html", view, kind.script)


def _place(kind: SectionKind) -> int:
    return kind.place


@cache
def _load() -> None:
    """Import every module of the folder of sections, so that each registers its own."""
    package = import_module("evenhand.reporting.sections")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
