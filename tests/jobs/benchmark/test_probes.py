"""What networks reveal of an attribute: found where it is planted, and less where it is gone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.command import PHANTOMS, evenhand, training

from evenhand.files import write_json
from evenhand.jobs.benchmark.probes import FILE, AttributeProbe, NetworkProbe, probe_rows

FOLDS, SEEDS, PATIENTS = 4, 2, 100


def folders(root, center: float, spread: float, seed: int):
    """Write probes whose value is about a centre, with patients and seeds that change it."""
    rng, placed = np.random.default_rng(seed), []
    for fold in range(FOLDS):
        luck = rng.normal(0, spread / np.sqrt(PATIENTS), PATIENTS)
        row = []
        for number in range(SEEDS):
            folder = root / f"{seed}-{fold}-{number}"
            value = center + luck.sum() + rng.normal(0, spread / 4)
            found_record = AttributeProbe(value=value, influence=tuple(luck), n=PATIENTS)
            write_json(folder / FILE, NetworkProbe(attributes={"sex": found_record}).model_dump())
            row.append(folder)
        placed.append(row)
    return placed


def test_the_interval_holds_the_truth_and_excludes_chance(tmp_path):
    covered, above = 0, 0
    for seed in range(60):
        (row,) = probe_rows({"erm": folders(tmp_path, 0.7, 0.08, seed)}, ["sex"])
        covered += row.low <= 0.7 <= row.high
        above += row.low > 0.5
        assert row.patients == FOLDS * PATIENTS
    assert covered >= 53  # 52 or fewer come in 1 of 100 where the true share is .95
    assert above >= 55


def test_differences_are_those_of_the_values_fold_by_fold(tmp_path):
    parts = {"erm": folders(tmp_path, 0.8, 0.05, 1), "coral": folders(tmp_path, 0.6, 0.05, 2)}
    erm, coral, change = probe_rows(parts, ["sex"])
    assert (change.model, change.against) == ("coral", "erm")
    assert change.value == pytest.approx(coral.value - erm.value)
    assert change.high < 0


def test_an_attribute_that_a_fold_cannot_probe_is_undefined_and_says_why(tmp_path):
    placed = folders(tmp_path, 0.7, 0.05, 3)
    write_json(placed[2][1] / FILE, NetworkProbe(attributes={}).model_dump())
    (row,) = probe_rows({"erm": placed}, ["sex"])
    assert row.value is None
    assert "too few test patients" in row.undefined


def test_the_command_probes_every_network_and_the_page_shows_it(tmp_path):
    words = ("--epochs", 1, "--trials", 1, "--folds", 2, "--seeds", 2, "--strategy", "head")
    words = (*words, "--method", "thresholds", "--probe", "--lr-min", "1e-3", "--lr-max", "1e-2")
    out = tmp_path / "run"
    command = ("benchmark", PHANTOMS, *words, *training(tmp_path / "cache"))
    ended = evenhand(*command, "--out", out)
    assert ended.status == 0, ended.err
    rows = json.loads((out / "benchmark.json").read_text())["probes"]
    assert [(row["model"], row["against"]) for row in rows] == [
        ("erm", None), ("head", None), ("head", "erm")]  # fmt: skip
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in rows[:2])
    assert rows[0]["patients"] == 160
    page = (out / "report.html").read_text()
    assert "What the networks reveal" in page
    before = (out / "benchmark.json").read_bytes()
    assert evenhand("report", out).status == 0
    assert (out / "benchmark.json").read_bytes() == before
