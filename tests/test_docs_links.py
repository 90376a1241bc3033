"""Every relative link of the pages leads to a file, and to a heading that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob(".github/**/*.md")])
SITE = ROOT / "docs"
GENERATED = {
    (SITE / page).resolve()
    for page in re.findall(r"[\w/]+\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), flags=re.M)
    if not (SITE / page).exists()
}
"""Pages that only the site has; `make docs` checks links to them, headings included."""
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """Return the text of a page without its code blocks and code spans."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", lambda span: re.sub(r"[\[\]()]", "", span[0]), text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings)
    return {text.replace(" ", "-") for text in words}


def broken(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    links = [link for link in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]
    return [link for link in links if not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    goal = (page.parent / path).resolve() if path else page
    if goal in GENERATED:
        return page.is_relative_to(SITE)
    return goal.exists() and (not anchor or anchor in anchors(goal))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_a_missing_file_or_heading_is_seen(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading, with `code`: yes\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[good](other.md#a-heading-with-code-yes) [no file](none.md) [no heading](other.md#none)\n"
    )
    assert broken(page) == ["none.md", "other.md#none"]
