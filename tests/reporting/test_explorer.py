from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evenhand.metrics import Groups, Plan, Scored, as_scored, groups_of, measure
from evenhand.reporting import ModelSamples, Report, render
from evenhand.reporting.charts.explorer import Explorer, explorer, explorer_cells

METRICS = ("sensitivity", "specificity", "ppv", "selection_rate")
EVIL = "</script><script>alert(1)</script>"


def samples(
    threshold: float = 0.371,
) -> tuple[Scored, dict[str, Groups], dict[str, tuple[str, ...]]]:
    """Scores on a coarse grid, so that ties with thresholds and exact halves of a percent occur."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 160)
    scores = np.clip(np.round(0.3 * labels + rng.random(160) * 0.7, 2), 0, 1)
    levels = rng.choice(["under 60", EVIL, "unknown"], 160, p=[0.6, 0.3, 0.1])
    groups = {"age": groups_of(levels)}
    return as_scored(labels, scores, threshold=threshold), groups, {"age": ("under 60", EVIL)}


def built_explorer(threshold: float = 0.371) -> Explorer:
    return explorer(*samples(threshold))


@pytest.mark.parametrize("threshold", [0.0, 0.371, 0.5, 0.77])
def test_counts_give_what_is_measured(threshold: float) -> None:
    rows, groups, _ = samples(threshold)
    result = built_explorer(threshold)
    assert result.thresholds[result.start] == threshold
    plan = Plan(METRICS, ("gap",), bootstrap=None)
    table = measure(rows, groups, plan, rng=np.random.default_rng(0))
    values = table.set_index(["group", "metric"])["value"]
    for counts in result.tables[0].counts:
        group = "*" if counts.name == "everyone" else counts.name
        expected = [values[group, metric] for metric in METRICS]
        assert counts.rates(result.start) == pytest.approx(expected, rel=1e-12, nan_ok=True)
    name, gaps = result.tables[0].rows[-1]
    assert name == "Gap"
    assert gaps[0] == f"{100 * values['*', 'sensitivity_gap']:.1f}\N{NO-BREAK SPACE}points"


def test_what_is_not_compared_takes_no_part_and_an_undefined_group_makes_the_gap_undefined() -> (
    None
):
    rows = as_scored([1, 0, 1, 0], [0.9, 0.1, 0.2, 0.3])
    result = explorer(rows, {"a": groups_of(["x", "x", "y", "y"])}, {"a": ("x",)})
    assert result.tables[0].rows[-1] == ("Gap", ("undefined",) * 4)  # one group alone
    result = explorer(rows, {"a": groups_of(["x", "x", "x", "y"])}, {"a": ("x", "y")})
    assert result.tables[0].rows[-1][1][:2] == ("undefined", "0.0\N{NO-BREAK SPACE}points")


def page(make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]) -> str:
    rows = make_rows("auc", 0.7, 0.8) + make_rows("auc", 0.6, 0.9, model="other")
    of_models = {"other": ModelSamples(*samples(0.62)), "model": ModelSamples(*samples())}
    return render(replace(make_report(rows), samples=of_models))


def test_page_holds_the_start_in_plain_html_and_allows_its_own_script_alone(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    text = page(make_report, make_rows)
    for name, row in built_explorer().tables[0].rows:
        assert html.escape(name) in text or name in text
        assert all(f'<td class="num">{cell}</td>' in text for cell in row)
    assert len(re.findall(r"<script", text)) == 3  # the counts of two models and the code
    assert "script-src 'sha256-" in text
    assert "unsafe-inline'; img" in text  # styles only
    assert not re.search(r"@import|url\(|https?:|//(?! One decimal)", text)


def test_each_model_has_its_scores_and_its_threshold_without_a_script(
    make_report: Callable[..., Report], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    text = page(make_report, make_rows)
    first, second = (text.index(f"The scores of {name}, group by") for name in ("model", "other"))
    assert first < text.index("<summary>The scores of other</summary>") < second
    assert text.index("Threshold of model") < text.index("<summary>Under other</summary>")
    assert re.findall(r'<output for="threshold-.">(.*)</output>', text) == ["0.371", "0.62"]
    assert len(re.findall(r'<p class="slider" hidden>', text)) == 2


def test_script_shows_the_numbers_that_python_shows(
    make_report: Callable[..., Report],
    make_rows: Callable[..., list[dict[str, Any]]],
    chromium: Callable[..., str],
    tmp_path: Path,
) -> None:
    drive = """<script>onload = () => {
        const page = document.querySelector("iframe").contentDocument
        const [part, other] = page.querySelectorAll(".explorer")
        const slider = part.querySelector("input"), before = other.textContent
        const seen = []
        for (let at = 0; at <= Number(slider.max); at++) {
            slider.value = at
            slider.dispatchEvent(new page.defaultView.Event("input"))
            const cells = [...part.querySelectorAll("tbody td")]
            seen.push([part.querySelector("output").textContent,
                       ...cells.map(cell => cell.textContent)].join("|"))
        }
        const control = part.querySelector(".slider")
        const moved = ", other moved " + (other.textContent !== before)
        const out = document.createElement("pre")
        out.textContent = seen.join("\\n") + "\\nhidden " + control.hidden + moved
        document.body.append(out)
    }</script>"""
    frame = f'<iframe srcdoc="{html.escape(page(make_report, make_rows))}"></iframe>'
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!DOCTYPE html><body>{frame}{drive}", encoding="utf-8")
    shown = re.search(r"<pre>(.*)</pre>", chromium(outer), re.DOTALL)
    assert shown
    *lines, hidden = html.unescape(shown[1]).splitlines()
    assert hidden == "hidden false, other moved false"
    result = built_explorer()
    expected = [
        "|".join(
            [
                f"{threshold:g}",
                *(c for _, row in explorer_cells(result.tables[0].counts, place) for c in row),
            ]
        )
        for place, threshold in enumerate(result.thresholds)
    ]
    assert len(expected) == 102
    assert lines == expected
