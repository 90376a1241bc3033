"""AUC and fairness by the share of patients with labels: drawn, and judged in one family."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError
from tests.command import evenhand

from evenhand.files import read_json
from evenhand.jobs.assess.settings import AssessSettings, parse_shares
from evenhand.reporting.charts.linear_axis import PlotFrame
from evenhand.reporting.charts.lines import LineValue, XTick, line_chart

DATA = "series_phantom:patients=160,steps=12,seed=1"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    grid = ("--cell", "frozen3", "--epochs", 1, "--pretrain-epochs", 1)
    words = ("assess", DATA, *grid, "--attribute", "group", "--device", "cpu", "--cache", cache)

    def run(out, *more, seeds=2):
        return evenhand(*words, *more, "--seeds", seeds, "--out", out)

    return run


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "assessed"
    ended = command(out, "--label-share", "20,50,100")
    assert ended.status == 0, ended.err
    return out


def test_each_arm_is_drawn_at_each_share_with_its_interval(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    part = page[page.index('id="labels"') :]
    for arm in ("self-supervision", "supervised"):
        for share in (20, 50, 100):
            titles = re.findall(rf"<title>{arm}, {share} %: (.*?)</title>", part)
            assert 1 <= len(titles) <= 2  # AUC, and the deviation where it is defined
            assert " to " in titles[0]
    assert "Intervals are over patients and seeds" in part
    assert "Claims" in part


def test_every_share_s_verdicts_are_in_one_family(run):
    verdicts = read_json(run / "verdicts.json")["verdicts"]
    pairs = {
        verdict["about"].partition(", ")[2]
        for verdict in verdicts
        if verdict["about"].startswith("AUC")
    }
    assert pairs == {f"frozen3{pct} against supervised{pct}" for pct in ("", "-50pct", "-20pct")}
    rows = read_json(run / "metrics.json")["rows"]
    judged = [row for row in rows if row["p_adjusted"] is not None]
    assert {item["model"] for item in judged} == {"frozen3", "frozen3-50pct", "frozen3-20pct"}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"Holm over the {3 * 4} differences" in page


def test_an_earlier_name_of_the_flag_is_taken(command, tmp_path):
    ended = command(tmp_path / "out", "--label-shares", "0.5", seeds=1)
    assert ended.status == 0, ended.err


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        (["1,5,10,20,50,100"], (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)),
        (["0.1", "1"], (0.1, 1.0)),
        (["10%,100%"], (0.1, 1.0)),
        ([0.5], (0.5,)),
    ],
)
def test_shares_are_fractions_or_per_cent(text, shares):
    assert parse_shares(text) == pytest.approx(shares)


@pytest.mark.parametrize("text", [("-1",), ("200",), ("half",), ("0",)])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ValidationError):
        AssessSettings(data="phantom:", label_share=text)


def test_too_few_patients_for_a_share_are_refused_before_any_work(command, tmp_path):
    ended = command(tmp_path / "out", "--label-share", "1,100")
    assert ended.status == 2
    message = r"--label-share 1%: of \d+ training patients of class '\w+', 1 would"
    assert re.search(message, ended.err)
    least = re.search(r"Give a share of ([\d.]+)% or more", ended.err)
    assert not (tmp_path / "out").exists()
    ended = command(tmp_path / "out", "--label-share", f"{least[1]}%,100%", seeds=1)
    assert ended.status == 0, ended.err


def test_places_of_a_line_chart_are_in_order_and_inside():
    readings = [LineValue(0.6, 0.5, 0.7), LineValue(None), LineValue(0.8)]
    places = [XTick(place, str(place)) for place in (0.0, 1.0, 3.0)]
    chart = line_chart({"a": readings, "b": readings}, places, PlotFrame("", "", "", ""))
    first, second = chart.lines
    assert [mark.text for mark in first.marks] == [
        "a, 0.0: 0.600 (0.500 to 0.700)",
        "a, 3.0: 0.800",
    ]
    assert first.marks[0].x < second.marks[0].x  # side by side
    assert first.marks[0].low > first.marks[0].y > first.marks[0].high > 0  # from the top
    assert [label for _, label in chart.x_ticks] == ["0.0", "1.0", "3.0"]
