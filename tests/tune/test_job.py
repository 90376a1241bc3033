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
from evenhand.finetune.prepared import prepared
from evenhand.measure import groups_of

TRIALS, CONFIRM, SEEDS = 3, 2, 2
MODELS = ("fairtune", "full", "head")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    flags = training(tmp_path_factory.mktemp("cache"), "--epochs", 2, "--trials", TRIALS)
    confirm = ("--confirm", CONFIRM, "--confirm-seeds", SEEDS)
    return ("tune", PHANTOMS, *flags, *confirm, "--lr-min", 1e-4, "--lr-max", 1e-2)


@pytest.fixture(scope="module")
def unbroken(words, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    ended = evenhand(*words, "--out", out)
    assert ended.status == 0, ended.err
    assert ended.out.startswith("24 fits at most")
    assert prepared.cache_info().currsize == 0  # it may hold gigabytes
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
    expected = {"run.json", "models", "metrics.json", "report.html", "splits.csv", "verdicts.json"}
    assert {path.name for path in unbroken.iterdir()} == {
        *(*expected, "study.db", "trials.csv", "search.json")
    }
    for name in MODELS:
        assert {path.name for path in (unbroken / "models" / name).iterdir()} == {
            *("model.safetensors", "model.json", "predictions.parquet")
        }
    rows = pd.DataFrame(read_json(unbroken / "metrics.json")["rows"])
    assert list(rows["model"].unique()) == list(MODELS)
    assert set(rows["against"].dropna()) == {"full", "head"}


def trials_of(out, name=None):
    trials = pd.read_csv(out / "trials.csv", keep_default_na=False, na_values={"repeats": [""]})
    return trials if name is None else trials[trials["study"] == name].set_index("number")


def test_each_contender_has_as_many_trials_and_starts_from_what_is_known(unbroken):
    counts = trials_of(unbroken)["study"].value_counts()
    for name in MODELS:
        assert counts[name] == TRIALS
        to_the_end = (trials_of(unbroken, name)["state"] == "complete").sum()
        assert counts[f"{name} confirmed"] == min(CONFIRM, to_the_end) * SEEDS
    trials = trials_of(unbroken, "fairtune")
    assert trials["origin"].tolist() == ["head", "layernorm", "attention"]  # the cheap ones first
    assert trials["mask"][0] == ""
    assert {unit.rpartition(".")[2] for unit in trials["mask"][1].split()} == {"norm"}
    assert {unit.rpartition(".")[2] for unit in trials["mask"][2].split()} == {"attn"}


@pytest.mark.parametrize("name", MODELS)
def test_the_chosen_trials_value_is_the_objective_of_the_final_validation_rows(unbroken, name):
    rows = read_predictions(unbroken / "models" / name / "predictions.parquet").of_split("val")
    groups = {"group": groups_of(rows.group("group").cat.remove_categories([UNKNOWN]))}
    value = find_objective("min_auc").value(rows.labels, rows.scores, groups)
    model = read_json(unbroken / "models" / name / "model.json")
    assert model["val"]["min_auc"] == pytest.approx(value, abs=1e-12)
    assert trials_of(unbroken, name)["min_auc"][model["trial"]] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_chosen_trial_has_the_best_mean_over_fresh_seeds(unbroken, name):
    again = trials_of(unbroken, f"{name} confirmed")
    assert set(again["seed"]) == {1, 2}  # the search's is 0
    assert (again["state"] == "complete").all()  # nothing is stopped early here
    means = again.astype({"min_auc": float}).groupby("origin")["min_auc"].mean()
    found = {one["name"]: one for one in read_json(unbroken / "search.json")["studies"]}[name]
    assert found["trial"] == read_json(unbroken / "models" / name / "model.json")["trial"]
    assert means.idxmax() == f"trial {found['trial']}"
    told = {one["trial"]: one["objectives"]["min_auc"] for one in found["confirmed"]}
    searched = trials_of(unbroken, name)["min_auc"].astype(float)
    for number, one in told.items():
        assert one["mean"] == pytest.approx(means[f"trial {number}"])
        assert one["optimism"] == pytest.approx(searched[number] - one["mean"])
        assert one["optimism_low"] <= one["optimism"] <= one["optimism_high"]


@pytest.mark.parametrize(
    ("done", "wait"), [(1, 0.25), pytest.param(TRIALS + 2, 0.05, marks=pytest.mark.slow)]
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
    assert finished_trials(out) == finished_trials(unbroken)
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
