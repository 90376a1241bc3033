"""FairTune: what a search leaves, and that a kill costs nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time

import pandas as pd
import pytest
from tests.command import PHANTOMS, evenhand, start, training

from evenhand import find_objective, read_predictions
from evenhand.cohort import UNKNOWN
from evenhand.files import read_json
from evenhand.measure import groups_of

TRIALS = 3
MODELS = ("fairtune", "full", "head")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    flags = training(tmp_path_factory.mktemp("cache"), "--epochs", 2, "--trials", TRIALS)
    return ("tune", PHANTOMS, *flags, "--lr-min", 1e-4, "--lr-max", 1e-2)


@pytest.fixture(scope="module")
def unbroken(words, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    ended = evenhand(*words, "--out", out)
    assert ended.status == 0, ended.err
    assert ended.out.startswith("12 fits at most")
    return out


def finished_trials(out) -> int:
    """Count the trials that are done, also while another process writes."""
    if not (out / "study.db").exists():
        return 0
    counted = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
    with contextlib.closing(sqlite3.connect(out / "study.db", timeout=30)) as base:
        try:
            return int(base.execute(counted).fetchone()[0])
        except sqlite3.OperationalError:  # its tables are not there yet
            return 0


def test_the_files_of_the_contract(unbroken):
    expected = {"run.json", "models", "metrics.json", "report.html", "splits.csv"}
    assert {path.name for path in unbroken.iterdir()} == {*expected, "study.db", "trials.csv"}
    for name in MODELS:
        assert {path.name for path in (unbroken / "models" / name).iterdir()} == {
            *("model.safetensors", "model.json", "predictions.parquet")
        }
    rows = pd.DataFrame(read_json(unbroken / "metrics.json")["rows"])
    assert list(rows["model"].unique()) == list(MODELS)
    assert set(rows["against"].dropna()) == {"full", "head"}


def test_each_contender_has_as_many_trials_and_starts_from_full_and_none(unbroken):
    trials = pd.read_csv(unbroken / "trials.csv", keep_default_na=False)
    assert trials["study"].value_counts().to_dict() == dict.fromkeys(MODELS, TRIALS)
    masks = trials.loc[trials["study"] == "fairtune", "mask"].tolist()
    assert "blocks.0.attn" in masks[0].split()
    assert masks[1] == ""


@pytest.mark.parametrize("name", MODELS)
def test_the_best_trials_value_is_the_objective_of_the_final_validation_rows(unbroken, name):
    rows = read_predictions(unbroken / "models" / name / "predictions.parquet").of_split("val")
    groups = {"group": groups_of(rows.group("group").cat.remove_categories([UNKNOWN]))}
    value = find_objective("min_auc").value(rows.labels, rows.scores, groups)
    model = read_json(unbroken / "models" / name / "model.json")
    trials = pd.read_csv(unbroken / "trials.csv").query("study == @name and state == 'complete'")
    best = trials.set_index("number")["value"]
    assert model["val"] == pytest.approx(value, abs=1e-12)
    assert best[model["trial"]] == pytest.approx(best.max(), abs=0)
    assert best.max() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("done", "wait"), [(1, 0.25), pytest.param(TRIALS + 1, 0.05, marks=pytest.mark.slow)]
)
def test_a_killed_study_ends_as_an_unbroken_one(words, unbroken, tmp_path, done, wait):
    out = tmp_path / "killed"
    process = start(*words, "--out", out)
    deadline = time.monotonic() + 120
    while finished_trials(out) < done and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(wait)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was still at work
    at_kill = finished_trials(out)
    assert at_kill >= done
    assert read_json(out / "run.json")["status"] == "running"

    other = evenhand(*words, "--lr-min", 1e-5, "--out", out)
    assert other.status == 2
    assert "lr_min was 0.0001, is 1e-05" in other.err
    assert evenhand("report", out).status == 2

    assert evenhand(*words, "--out", out).status == 0
    assert finished_trials(out) == TRIALS * len(MODELS)
    tables = [
        pd.read_csv(root / "trials.csv", keep_default_na=False).drop(columns="seconds")
        for root in (out, unbroken)
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    for name in MODELS:
        first, second = (
            (root / "models" / name / "predictions.parquet").read_bytes()
            for root in (out, unbroken)
        )
        assert first == second


def test_a_finished_run_is_refused_and_reports_again(words, unbroken):
    before = (unbroken / "metrics.json").read_bytes()
    ended = evenhand(*words, "--out", unbroken)
    assert ended.status == 2
    assert "holds a finished run" in ended.err
    assert evenhand("report", unbroken).status == 0
    assert (unbroken / "metrics.json").read_bytes() == before
