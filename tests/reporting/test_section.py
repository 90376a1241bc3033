"""The list of sections that pages are made of."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module, resources

from evenhand.reporting import Report, render
from evenhand.reporting.section import (
    SECTIONS,
    Part,
    SectionKind,
    include_page,
    section,
    sections_of,
)


def test_a_registered_section_is_on_its_page_in_its_place(audit: Report, monkeypatch) -> None:
    sections_of("report", audit)  # registers all others
    monkeypatch.setitem(SECTIONS, ("report", "part"), None)  # is absent again afterwards

    @section("report", "part", lambda report: f"Notes on {report.main_model}", place=25)
    def notes(report: Report) -> Part | None:
        return Part(sentences=tuple(report.notes)) if report.notes else None

    assert "part" not in [item.name for item in sections_of("report", audit)]
    noted = replace(audit, notes=["Only one scanner."])
    names = [item.name for item in sections_of("report", noted)]
    assert names.index("part") == names.index("groups") + 1
    page = render(noted)
    assert '<li><a href="#part">Notes on model</a></li>' in page
    assert "<p>Only one scanner.</p>" in page[page.index('<section id="part"') :]


def test_each_section_has_a_place_and_a_template(audit: Report) -> None:
    for page in ("assess", "benchmark"):  # their sections register with the page
        import_module(f"evenhand.jobs.{page}.page")
    sections_of("report", audit)
    kinds = SECTIONS.values()
    assert len({(kind.page, kind.place) for kind in kinds}) == len(SECTIONS)
    templates = resources.files("evenhand.reporting").joinpath("templates")
    own = [kind for kind in kinds if isinstance(kind, SectionKind)]
    for kind in own:
        assert templates.joinpath(kind.file).is_file()
    homes = [kind.build.__module__ for kind in own if kind.page == "report"]
    assert len(set(homes)) == len(homes)


def test_a_page_has_the_sections_of_another_with_a_number(audit: Report, monkeypatch) -> None:
    sections_of("report", audit)
    for key in (("similarity", "part"), ("assess", "similarity")):
        monkeypatch.setitem(SECTIONS, key, None)
    for key in [key for key in SECTIONS if key[0] in ("similarity", "assess")]:
        monkeypatch.delitem(SECTIONS, key)

    @section("similarity", "part", "Some words", place=1)
    def words(data: str) -> Part:
        return Part(sentences=(data,))

    include_page("assess", "similarity", lambda data: data[0], place=2, number="4.")
    (included,) = sections_of("assess", ("first", "second"))
    assert included.title == "4. Some words"
    assert included.view == Part(sentences=("first",))
