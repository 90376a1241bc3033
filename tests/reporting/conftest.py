from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.records import make_record

from evenhand.jobs.tune.settings import TuneSettings
from evenhand.metrics import MetricRow, find_target
from evenhand.reporting import Report, Search, UnitShare
from evenhand.reporting.search_record import StudyRecord


def row(
    base: str, value: float | None, aggregate: str | None = None, **more: Any
) -> dict[str, Any]:
    """Fields of a row of ``metrics.json``; the interval is 0.05 to either side unless given."""
    low = high = None
    if value is not None:
        low, high = round(value - 0.05, 6), round(value + 0.05, 6)
    usual = {
        "model": "model",
        "split": "test",
        "attribute": "*",
        "group": "*",
        "base": base,
        "aggregate": aggregate,
        "value": value,
        "low": low,
        "high": high,
        "level": 0.95,
        "n": 400,
        "patients": 300,
        "positives": 80,
        "replicates_undefined": 0,
        "undefined": None if value is not None else "no positives among 400 samples",
    }
    return usual | more


def of_age(
    metric: str, old: float | None, young: float | None, **more: Any
) -> list[dict[str, Any]]:
    """Rows of both age groups, everybody, and across the groups."""
    both = old is not None and young is not None
    across = {"worst": min, "best": max, "gap": lambda a, b: round(abs(a - b), 6)}
    return [
        row(metric, 0.777, **more),
        row(metric, young, attribute="age", group="under 60", n=250, **more),
        row(metric, old, attribute="age", group="60+", n=150, **more),
        *(
            row(metric, f(old, young) if both else None, kind, attribute="age", **p, **more)
            for kind, f in across.items()
            for p in [{"p_adjusted": 0.01} if kind == "gap" else {}]
        ),
    ]


def metric_rows(rows: list[dict[str, Any]]) -> list[MetricRow]:
    return [MetricRow(**row) for row in rows]


@pytest.fixture
def make_row() -> Callable[..., dict[str, Any]]:
    return row


@pytest.fixture
def make_rows() -> Callable[..., list[dict[str, Any]]]:
    return of_age


@pytest.fixture
def make_report() -> Callable[..., Report]:
    def make(rows: list[dict[str, Any]], **more: Any) -> Report:
        settings: dict[str, Any] = {
            "title": "An audit",
            "attributes": ["age"],
            "positive": "malignant",
        }
        return Report(rows=metric_rows(rows), **(settings | more))

    return make


@pytest.fixture
def audit(make_report: Callable[..., Report]) -> Report:
    """One model, one attribute."""
    rows = of_age("sensitivity", 0.61, 0.84) + of_age("auc", 0.71, 0.83)
    return make_report(rows, record=make_record(seed=3))


@pytest.fixture
def tuned(make_report: Callable[..., Report]) -> Report:
    """Everything that a report can show."""
    rows = [
        item
        for model, shift in (("fairtune", 0.0), ("full", -0.06), ("head", -0.02))
        for split in ("test", "val", "train")
        for item in of_age("auc", 0.78 + shift, 0.86 + shift, model=model, split=split)
    ]
    paired = (("full", 0.06, 0.02, 0.1, 0.004), ("head", 0.02, -0.03, 0.07, 0.61))
    for other, by, low, high, p in paired:
        pair = {"model": "fairtune", "against": other, "low": low, "high": high, "p_adjusted": p}
        rows.append(row("auc", by, "worst", attribute="age", **pair))
        rows.append(row("auc", by, **pair))
    rows.append(row("sensitivity", None, model="fairtune", attribute="age", group="60+"))
    rows += [row("accuracy", 0.8, model=m, threshold=0.4) for m in ("fairtune", "head")]
    trials = pd.DataFrame(
        {
            "study": ["fairtune"] * 5,
            "number": [0, 1, 2, 3, 4],
            "state": ["complete", "pruned", "complete", "fail", "repeated"],
            "origin": ["full", "head", "sampler", "sampler", "sampler"],
            "repeats": [None, None, None, None, 2],
            "auc": [0.80, 0.71, 0.79, None, 0.79],
            "auc_worst": [0.70, 0.61, 0.75, None, 0.75],
            "pareto": [True, False, True, False, False],
            "lr": [1e-4, 1e-5, 1e-3, 2e-4, 1e-3],
            "mask": ["blocks.0.attn", "", "blocks.1.mlp", "", "blocks.1.mlp"],
        }
    )
    ends = {"mean_low": 0.65, "mean_high": 0.77, "optimism_low": -0.02, "optimism_high": 0.1}
    confirmed = {"searched": 0.75, "again": [0.7, 0.72], "mean": 0.71, "optimism": 0.04} | ends
    study = {
        "name": "fairtune",
        "trial": 2,
        "confirmed": [
            {
                "trial": 2,
                "seeds": 2,
                "objectives": {"auc": confirmed, "auc_worst": confirmed},
            }
        ],
        "units": [
            {"unit": "blocks.1.mlp", "objective": target, "difference": 0.02}
            | {"low": -0.01, "high": 0.05, "with": 3, "without": 4}
            for target in ("auc", "auc_worst")
        ],
    }
    units = [
        UnitShare(f"blocks.{depth}.{kind}", depth + 1, kind, size, tuned=depth == 1)
        for depth in range(2)
        for kind, size in (("attn", 100), ("mlp", 300))
    ]
    return make_report(
        rows,
        record=make_record(
            "tune",
            TuneSettings(data="phantom:"),
            chosen="fairtune",
            seconds={"search": 75.0},
            versions={"torch": "2.13.0"},
        ),
        search=Search(
            trials,
            [find_target("auc"), find_target("auc_worst")],
            [StudyRecord.model_validate(study)],
        ),
        units=units,
        threshold_rule="Youden's threshold, chosen on validation rows.",
        left_out=["images/7.jpg is truncated."],
        notes=["These data know lesions, not patients."],
    )


PIPES = """import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Program that starts Chromium with its pipes as file descriptors 3 and 4."""


class Browser:
    """A page in headless Chromium, driven by its debugging protocol over a pipe (no port)."""

    def __init__(self, binary: str, profile: Path, page: Path, width: int = 1100) -> None:
        (from_parent, self._to), (self._from, to_parent) = os.pipe(), os.pipe()
        command = [
            sys.executable, "-c", PIPES, str(from_parent), str(to_parent), binary,
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--remote-debugging-pipe", f"--user-data-dir={profile}",
            f"--window-size={width},1000", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, pass_fds=(from_parent, to_parent), stderr=subprocess.DEVNULL
        )
        os.close(from_parent)
        os.close(to_parent)
        self._sent, self._rest, self._session = 0, b"", ""
        target = self.send("Target.createTarget", url=page.as_uri())["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        while self.run("location.href + document.readyState") != f"{page.as_uri()}complete":
            pass

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            text, ends, rest = self._rest.partition(b"\0")
            if not ends:
                part = os.read(self._from, 2**16)
                assert part, "Chromium ended"
                self._rest += part
                continue
            self._rest = rest
            answer = json.loads(text)
            if answer.get("id") == self._sent:
                return answer["result"]

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as a person does."""
        text = {"Enter": "\r", " ": " "}.get(key)
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39}[key]
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = fields | ({"text": text} if text else {})
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
        self.send("Input.dispatchKeyEvent", type="keyUp", **fields)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._to)
        os.close(self._from)


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Callable[[str], Browser]]:
    """Open a page in headless Chromium, to press keys in it."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("Chromium is not installed")
    browsers: list[Browser] = []

    def open_page(page: str) -> Browser:
        path = tmp_path / f"page-{len(browsers)}.html"
        path.write_text(page, encoding="utf-8")
        browsers.append(Browser(binary, tmp_path / f"profile-{len(browsers)}", path))
        return browsers[-1]

    yield open_page
    for browser in browsers:
        browser.close()


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[..., str]:
    """Load a page in headless Chromium; returns the document after its scripts, as HTML."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("Chromium is not installed")

    def load(page: Path) -> str:
        command = [
            binary, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--enable-logging=stderr", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return load
