"""The list of sections that pages are made of."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

from evenhand.reporting import Report, render
from evenhand.reporting.section import SECTIONS, section, sections_of
from evenhand.reporting.sections.assessment import Part


def test_a_registered_section_is_on_its_page_in_its_place(audit: Report, monkeypatch) -> None:
    sections_of("report", audit)  # registers all others
    monkeypatch.setitem(SECTIONS, ("report", "part"), None)  # is absent again afterwards

    @section("report", "part", lambda report: f"Notes on {report.main_model}", place=25)
    def notes(report: Report) -> Part | None:
        return Part(sentences=tuple(report.notes)) if report.notes else None

    assert "part" not in [one.name for one in sections_of("report", audit)]
    noted = replace(audit, notes=["Only one scanner."])
    names = [one.name for one in sections_of("report", noted)]
    assert names.index("part") == names.index("groups") + 1
    page = render(noted)
    assert '<li><a href="#part">Notes on model</a></li>' in page
    assert "<p>Only one scanner.</p>" in page[page.index('<section id="part"') :]


def test_each_section_has_a_place_and_a_template_of_its_own(audit: Report) -> None:
    sections_of("report", audit)
    kinds = SECTIONS.values()
    assert len({(kind.page, kind.place) for kind in kinds}) == len(SECTIONS)
    templates = resources.files("evenhand.reporting").joinpath("templates")
    for kind in kinds:
        assert templates.joinpath(f"{kind.name}.html").is_file()
    homes = [kind.build.__module__ for kind in kinds if kind.page == "report"]
    assert len(set(homes)) == len(homes)
