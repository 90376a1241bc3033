from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.records import make_record

from evenhand.evaluation.metrics_file import read_metrics, write_metrics
from evenhand.evaluation.settings import CompareSettings
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.metrics import Target, find_metric
from evenhand.reporting import Report, Search, render

EVIL = "<script>alert(1)</script>\"'&\n,"
SECTIONS = {
    "answer", "groups", "strategies", "generalisation", "search", "units", "undefined",
    "provenance",
}  # fmt: skip


class Outline(HTMLParser):
    """What a page is made of: elements, their attributes, anchors, and the text."""

    VOID = frozenset({"meta", "line", "rect", "circle", "path", "br", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    @property
    def sections(self) -> set[str]:
        return {attrs["id"] or "" for tag, attrs in self.tags if tag == "section"}


def test_audit_says_the_answer_first(audit: Report) -> None:
    text = Outline(render(audit)).text
    answer = text.index(
        "Where age is 60+, the model finds 61 of 100 malignant cases; where it is under 60, 84."
    )
    gap = text.index("The gap is 23 points (95 % interval 18 to 28).")
    assert answer < gap < text.index("Of all malignant cases, the share found.")


def test_tune_says_first_whether_its_worst_group_is_better(tuned: Report) -> None:
    text = Outline(render(tuned)).text
    headline = (
        "FairTune serves its worst-served age group better than full fine-tuning; "
        "these data do not show whether it does better or worse than head only."
    )
    assert text.index(headline) < text.index("Where age is")
    assert (
        "Against full fine-tuning: +0.060 (95 % interval 0.020 to 0.100; corrected p = 0.004): "
        "better." in text
    )


def test_files_that_are_compared_keep_their_names(tuned: Report) -> None:
    inputs = (Path("fairtune.csv"), Path("full.csv"), Path("head.csv"))
    record = make_record("compare", CompareSettings(inputs=inputs))
    text = Outline(render(replace(tuned, record=record, search=None, units=()))).text
    assert "fairtune serves its worst-served age group better than full; " in text
    assert "fine-tuning" not in text


def test_thresholds_are_told_with_their_rule(tuned: Report) -> None:
    text = Outline(render(tuned)).text
    assert text.count("Youden's threshold, chosen on validation rows.") == 1
    assert "Decision threshold of FairTune: 0.4. Decision threshold of head only: 0.4." in text


def test_every_section_is_there_when_its_data_are(tuned: Report) -> None:
    outline = Outline(render(tuned))
    assert outline.sections == SECTIONS
    links = {attrs["href"] for tag, attrs in outline.tags if tag == "a"}
    assert links == {f"#{name}" for name in SECTIONS}


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"search": None}, {"search"}),
        ({"units": ()}, {"units"}),
        ({"record": make_record(chosen="fairtune"), "threshold_rule": ""}, set()),
    ],
)
def test_a_section_is_absent_without_its_data(
    tuned: Report, change: dict[str, Any], missing: set[str]
) -> None:
    assert Outline(render(replace(tuned, **change))).sections == SECTIONS - missing


def test_an_audit_has_only_what_it_has(audit: Report) -> None:
    assert Outline(render(audit)).sections == {"answer", "groups", "provenance"}
    assert Outline(render(replace(audit, record=None))).sections == {"answer", "groups"}


def test_splits_are_side_by_side_only_where_there_are_several(tuned: Report) -> None:
    rows = [row for row in tuned.rows if row.split == "test"]
    assert "generalisation" not in Outline(render(replace(tuned, rows=rows))).sections


def test_numbers_are_those_of_the_rows(
    make_report: Callable[..., Report], make_row: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        make_row("auc", 0.81234, low=0.7011, high=0.9, attribute="age", group="60+", n=1234),
        make_row("sensitivity", 0.6129, low=0.5, high=0.7777, attribute="age", group="60+"),
        make_row("log_loss", 1.5, attribute="age", group="60+"),
    ]
    text = Outline(render(make_report(rows))).text
    assert "0.812 0.701 to 0.900" in text
    assert "61.3 % 50.0 to 77.8 %" in text
    assert "1.500 1.450 to 1.550" in text
    assert "80 malignant of 1,234" in text


def test_undefined_is_shown_with_its_reason_and_never_as_a_number(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    outline = Outline(render(make_report(make_rows("sensitivity", None, 0.84))))
    assert "undefined no positives among 400 samples" in outline.text
    assert "Nothing can be said about age" in outline.text
    assert "undefined" in outline.sections
    assert not re.search(r"\b0\.0 %|\bnan\b|\bNone\b", outline.text)
    marks = [attrs for _, attrs in outline.tags if attrs.get("class") == "mark"]
    assert len(marks) == 2  # everyone and the group under 60


def test_everything_undefined(audit: Report) -> None:
    nothing = {"value": None, "low": None, "high": None, "undefined": "no samples"}
    rows = [replace(row, **nothing) for row in audit.rows]
    outline = Outline(render(replace(audit, rows=rows)))
    assert "Nothing can be said about age" in outline.text
    assert not [attrs for _, attrs in outline.tags if attrs.get("class") == "mark"]


def test_no_rows_at_all(audit: Report) -> None:
    outline = Outline(render(replace(audit, rows=())))
    assert "There are no numbers by group in this report." in outline.text


def test_multi_class_has_no_positives(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = make_rows("auc", 0.71, 0.83, positives=None)
    text = Outline(render(make_report(rows))).text
    assert "Where age is 60+, the AUC is 0.710; where it is under 60, 0.830." in text
    assert "400 samples" in text
    assert "malignant of" not in text


def test_rows_read_back_from_a_file_give_the_same_page(audit: Report, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, audit.rows)
    assert render(replace(audit, rows=read_metrics(path))) == render(audit)


def evil(report: Report) -> Report:
    """Put markup into every name and text that a report is given."""
    evil_names = {"60+": EVIL, "age": EVIL, "head": EVIL}
    rows = [
        replace(
            row,
            undefined=row.undefined and EVIL,
            **{
                name: evil_names.get(getattr(row, name), getattr(row, name))
                for name in ("group", "attribute", "model", "against")
            },
        )
        for row in report.rows
    ]
    search, units = report.search, report.units
    assert search
    trials = search.trials.assign(mask=EVIL, study=EVIL, origin=EVIL)
    trials = trials.rename(columns={"auc_worst": EVIL})
    studies = [
        study.model_copy(
            update={
                "name": EVIL,
                "confirmed": [
                    candidate.model_copy(
                        update={"objectives": {EVIL: candidate.objectives["auc_worst"]}}
                    )
                    for candidate in study.confirmed
                ],
                "units": [
                    unit.model_copy(update={"unit": EVIL, "objective": EVIL})
                    for unit in study.units
                ],
            }
        )
        for study in search.studies
    ]
    return replace(
        report,
        title=EVIL,
        record=make_record(
            "tune",
            TuneSettings(data=EVIL, attribute=(EVIL,)),
            chosen="fairtune",
            versions={EVIL: EVIL},
            **{EVIL: {EVIL: EVIL}},
        ),
        rows=rows,
        attributes=[EVIL],
        positive=EVIL,
        patient=EVIL,
        search=Search(trials, [Target(replace(find_metric("auc"), name=EVIL))], studies),
        units=[replace(unit, name=EVIL, kind=EVIL) for unit in units],
        threshold_rule=EVIL,
        left_out=[EVIL],
        notes=[EVIL],
    )


def test_names_are_text_wherever_they_are_shown(tuned: Report) -> None:
    page = render(evil(tuned))
    outline = Outline(page)
    plain = {tag for tag, _ in Outline(render(tuned)).tags}
    assert {tag for tag, _ in outline.tags} <= plain
    assert "script" not in plain
    assert "<script" not in page.lower()
    assert "alert(1)" in outline.text
    assert page.count("alert(1)") == html.unescape(page).count("<script>alert(1)</script>")


def test_page_loads_nothing(tuned: Report) -> None:
    page = render(tuned)
    for _, attrs in Outline(page).tags:
        assert not {"src", "srcset", "data", "poster", "action"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
        assert (attrs.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\(|https?:|//", page)


def test_markup_is_whole_and_ids_are_single(tuned: Report) -> None:
    outline = Outline(render(tuned))
    assert outline.open == []
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    unique = set(ids)
    for _, attrs in outline.tags:
        assert attrs.get("aria-labelledby", None) in {None, *unique}


@pytest.mark.parametrize("width", [320, 700, 1300])
def test_chromium_shows_the_page_without_a_complaint(
    tuned: Report, chromium: Callable[..., str], tmp_path: Path, width: int
) -> None:
    frame = f'<iframe srcdoc="{html.escape(render(evil(tuned)))}" style="width:{width}px">'
    probe = """<script>onload = () => {
        const page = document.querySelector("iframe").contentDocument
        const strips = [...page.querySelectorAll(".forest tbody svg.strip")]
        document.title = [
            page.documentElement.scrollWidth,
            strips.filter(strip => strip.checkVisibility()).length,
            Math.min(...strips.map(strip => strip.getBoundingClientRect().width || 1e9)),
            getComputedStyle(page.querySelector("h1")).fontWeight,
        ].join(" ")
    }</script>"""
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!DOCTYPE html>{frame}</iframe>{probe}", encoding="utf-8")
    shown = chromium(outer)
    title = re.search(r"<title>([\d.]+) (\d+) ([\d.]+) (\d+)</title>", shown)
    assert title
    assert int(title[1]) <= width  # nothing sticks out sideways
    assert int(title[2]) >= 20
    assert float(title[3]) >= 80  # every picture is wide enough to read
    assert title[4] == "700"  # the style is applied


def test_no_table_scrolls_sideways_at_1100_pixels(
    tuned: Report, chromium: Callable[..., str], tmp_path: Path
) -> None:
    frame = f'<iframe srcdoc="{html.escape(render(tuned))}" style="width:1100px">'
    probe = """<script>onload = () => {
        const page = document.querySelector("iframe").contentDocument
        page.querySelectorAll("details").forEach(part => { part.open = true })
        const tables = [...page.querySelectorAll(".scroll, .forest")]
        const wide = tables.filter(table => table.scrollWidth > table.clientWidth + 1)
        document.title = `${tables.length} of which wide: `
            + wide.map(table => table.ariaLabel || table.className).join(", ")
    }</script>"""
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!DOCTYPE html>{frame}</iframe>{probe}", encoding="utf-8")
    title = re.search(r"<title>(\d+) of which wide: (.*)</title>", chromium(outer))
    assert title
    assert int(title[1]) > 3
    assert title[2] == ""


def test_a_script_that_got_in_would_not_run(
    tuned: Report, chromium: Callable[..., str], tmp_path: Path
) -> None:
    script = "<script>parent.document.title = 'ran'</script></body>"
    frame = html.escape(render(tuned).replace("</body>", script))
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<!DOCTYPE html><title>still</title><iframe srcdoc="{frame}"></iframe>', encoding="utf-8"
    )
    with pytest.raises(AssertionError, match="Content Security Policy"):  # Chromium complains
        chromium(outer)


def test_several_models_are_told_apart_in_the_answer(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = [*make_rows("auc", 0.7, 0.8, model="A"), *make_rows("auc", 0.6, 0.9, model="B")]
    text = Outline(render(make_report(rows))).text
    assert "Age under A" in text
    assert "Age under B" in text
    assert "Models side by side" in text


def test_a_metric_that_was_asked_for_first_leads(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = make_rows("false_omission_rate", 0.2, 0.1) + make_rows("auc", 0.7, 0.8)
    text = Outline(render(make_report(rows))).text
    assert "the False-omission rate is 20.0 %; where it is under 60, 10.0 %" in text
    assert text.index("Of all cases cleared, the share that is malignant") < text.index("0.5 is ch")


def test_paired_differences_are_shown_in_every_metric(
    make_report: Callable[..., Report], make_row: Callable[..., dict[str, Any]]
) -> None:
    rows = [make_row(metric, 0.8, model=m) for m in "AB" for metric in ("auc", "ppv")]
    rows += [make_row(metric, 0.04, model="A", against="B") for metric in ("auc", "ppv")]
    text = Outline(render(make_report(rows))).text
    assert text.index("Difference in AUC.") < text.index("Paired differences in the other metrics")
    assert "Difference in PPV." in text.partition("Paired differences in the other metrics")[2]
