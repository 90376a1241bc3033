"""A page by keyboard alone: Tab reaches everything that opens, moves or scrolls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.reporting.test_explorer import page

from evenhand.reporting import Report, render

FOCUSED = """(() => {
    const element = document.activeElement, style = getComputedStyle(element)
    const place = [...document.querySelectorAll("*")].indexOf(element)
    return [place, element.tagName, style.outlineStyle, parseFloat(style.outlineWidth)]
})()"""
FOCUSABLE = """(() => {
    const all = [...document.querySelectorAll("*")]
    return [...document.querySelectorAll("a[href], summary, input, .scroll, .scroll-x")]
        .filter(element => element.checkVisibility() && !element.closest("[hidden]"))
        .map(element => all.indexOf(element))
})()"""
OPEN = "document.activeElement.parentElement.open"


def tab_through(browser: Any) -> list[list[Any]]:
    """Press Tab until the focus comes to an element again; return what had the focus."""
    stops: list[list[Any]] = []
    while len(stops) < 1000:
        browser.press("Tab")
        stop = browser.run(FOCUSED)
        if stop[1] == "BODY" or stop in stops:
            return stops
        stops.append(stop)
    raise AssertionError("Tab never comes back")


@pytest.mark.parametrize("opened", [False, True])
def test_tab_reaches_everything_with_a_ring(
    tuned: Report, browse: Callable[[str], Any], opened: bool
) -> None:
    browser = browse(render(tuned))
    if opened:
        browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
    stops = tab_through(browser)
    assert len(stops) > 15
    assert {place for place, *_ in stops} >= set(browser.run(FOCUSABLE))
    places = [place for place, *_ in stops]
    assert places == sorted(places)  # in the order of the page
    for stop in stops:
        assert stop[2:] == ["solid", 3], stop


def test_enter_and_space_open_and_close_what_is_folded(
    tuned: Report, browse: Callable[[str], Any]
) -> None:
    browser = browse(render(tuned))
    count = browser.run("document.querySelectorAll('details').length")
    assert count > 3
    browser.run("document.querySelector('summary').focus()")
    for key, is_open in (("Enter", True), ("Enter", False), (" ", True), (" ", False)):
        browser.press(key)
        assert browser.run(OPEN) is is_open, key


def test_what_is_folded_tells_assistive_technology_whether_it_is_open(
    tuned: Report, browse: Callable[[str], Any]
) -> None:
    browser = browse(render(tuned))

    def expanded() -> list[bool]:
        nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
        roles = [node for node in nodes if node["role"]["value"] == "DisclosureTriangle"]
        return [
            field["value"]["value"]
            for node in roles
            for field in node["properties"]
            if field["name"] == "expanded"
        ]

    closed = expanded()
    assert len(closed) >= 4
    assert not any(closed)
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter")
    assert sum(expanded()) == 1


def test_the_threshold_moves_by_arrow_keys(
    make_report: Callable[..., Report],
    make_rows: Callable[..., list[dict[str, Any]]],
    browse: Callable[[str], Any],
) -> None:
    browser = browse(page(make_report, make_rows))
    slider, output = "document.querySelector('input')", "document.querySelector('output')"
    browser.run(f"{slider}.focus()")
    before = browser.run(f"{output}.textContent")
    browser.press("ArrowRight")
    after = browser.run(f"{output}.textContent")
    assert float(after) > float(before)
    assert browser.run(f"{slider}.getAttribute('aria-valuetext')") == f"threshold {after}"
