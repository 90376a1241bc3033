"""FairTune: what a search leaves, and that a kill costs nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time

import pandas as pd
import pytest
from tests.command import PHANTOMS, changed, evenhand, start, training

from evenhand import find_target, read_predictions
from evenhand.experiments.task_cache import cached_task
from evenhand.files import read_json
from evenhand.metrics import groups_of
from evenhand.tables.attributes import UNKNOWN

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
    assert ended.out.startswith(
        "21 fits at most: 3 searches of 3 trials and 4 fits to confirm each"
    )
    assert cached_task.cache_info().currsize == 0  # it may hold gigabytes
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
            *("model.safetensors", "model.json", "predictions.parquet", "seeds")
        }
        assert {path.name for path in (unbroken / "models" / name / "seeds").iterdir()} == {
            *("1.parquet", "2.parquet")
        }
    rows = pd.DataFrame(read_json(unbroken / "metrics.json")["rows"])
    assert list(rows["model"].unique()) == list(MODELS)
    assert set(rows["against"].dropna()) == {"full", "head"}


def trials_of(out, name=None):
    trials = pd.read_csv(out / "trials.csv", keep_default_na=False, na_values={"repeats": [""]})
    return trials if name is None else trials[trials["study"] == name].set_index("number")


def study_of(out, name):
    return {item["name"]: item for item in read_json(out / "search.json")["studies"]}[name]


def test_each_contender_has_as_many_trials_of_its_own_and_fairtune_starts_from_the_others(unbroken):
    trials = trials_of(unbroken)
    counts = trials[trials["adopted"] == ""]["study"].value_counts()
    for name in MODELS:
        assert counts[name] == study_of(unbroken, name)["trained"] == TRIALS
        own = trials_of(unbroken, name)
        own = own[own["adopted"] == ""]
        to_the_end = (own["state"] == "complete").sum()
        assert counts[f"{name} confirmed"] == min(CONFIRM, to_the_end) * SEEDS
    trials, head = trials_of(unbroken, "fairtune"), trials_of(unbroken, "head")
    assert study_of(unbroken, "fairtune")["adopted"] == TRIALS
    assert trials["origin"].tolist() == ["head"] * TRIALS + ["layernorm", "attention", "full"]
    columns = [
        "state",
        "auc_worst",
        "epochs",
        "lr",
        "seed",
        "mask",
    ]  # no family of a ViT holds full
    pd.testing.assert_frame_equal(trials[columns][:TRIALS], head[columns])
    assert trials["adopted"].iloc[:TRIALS].astype(float).tolist() == [0, 1, 2]
    assert {unit.rpartition(".")[2] for unit in trials["mask"][TRIALS].split()} == {"norm"}
    assert {unit.rpartition(".")[2] for unit in trials["mask"][TRIALS + 1].split()} == {"attn"}
    full = trials_of(unbroken, "full")
    best = full.loc[full["state"] == "complete", "auc_worst"].astype(float).idxmax()
    assert trials["lr"][TRIALS + 2] == full["lr"][best]


def chosen_fits(out, name):
    """Return the rows of the study that confirmed what a contender chose."""
    chosen = study_of(out, name)["chosen"]
    again = trials_of(out, f"{chosen['study']} confirmed").astype({"auc_worst": float})
    return chosen, again[again["origin"] == f"trial {chosen['trial']}"].set_index("seed")


@pytest.mark.parametrize("name", MODELS)
def test_what_is_delivered_is_the_confirmed_fit_in_the_middle(unbroken, name):
    chosen, fits = chosen_fits(unbroken, name)
    model = read_json(unbroken / "models" / name / "model.json")
    assert (model["study"], model["trial"]) == (chosen["study"], chosen["trial"])
    assert (model["seed"], model["seeds"]) == (chosen["seed"], [1, 2])
    assert fits["auc_worst"].idxmin() == model["seed"]  # of two the worse
    rows = read_predictions(unbroken / "models" / name / "predictions.parquet").of_split("val")
    groups = {"group": groups_of(rows.group("group").cat.remove_categories([UNKNOWN]))}
    value = find_target("auc_worst").value(rows.labels, rows.scores, groups)
    assert model["val"]["auc_worst"] == pytest.approx(value, abs=1e-12)
    assert fits["auc_worst"][model["seed"]] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_delivered_weights_give_the_delivered_predictions(unbroken, name, tmp_path):
    ended = evenhand("predict", unbroken, PHANTOMS, "--model", name, "--out", tmp_path / "again")
    assert ended.status == 0, ended.err
    again = read_predictions(tmp_path / "again" / "models" / name / "predictions.parquet")
    delivered = read_predictions(unbroken / "models" / name / "predictions.parquet")
    by = [frame.table.set_index("sample_id")["score"].sort_index() for frame in (again, delivered)]
    pd.testing.assert_series_equal(*by, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_confirmed_seed_is_reported_on_test(unbroken, name):
    chosen, confirmed = chosen_fits(unbroken, name)
    fits = study_of(unbroken, name)["fits"]
    assert [fit["seed"] for fit in fits] == [1, 2]
    for fit in fits:
        assert fit["val"]["auc_worst"] == pytest.approx(confirmed["auc_worst"][fit["seed"]])
        path = unbroken / "models" / name / "seeds" / f"{fit['seed']}.parquet"
        rows = read_predictions(path).of_split("test")
        everyone = find_target("auc").value(rows.labels, rows.scores, {})
        assert fit["auc"][0] == {"attribute": "*", "group": "*", "value": pytest.approx(everyone)}
        groups = [item["value"] for item in fit["auc"][1:]]
        assert fit["test"]["auc_worst"] == pytest.approx(min(groups))
    delivered = unbroken / "models" / name / "seeds" / f"{chosen['seed']}.parquet"
    mine = unbroken / "models" / name / "predictions.parquet"
    assert delivered.read_bytes() == mine.read_bytes()
    page = (unbroken / "report.html").read_text()
    assert f'seed {chosen["seed"]} <span class="tag good">delivered' in page
    notes = " ".join(read_json(unbroken / "run.json")["notes"])
    assert (
        f"{name}: of the 2 fits that confirm the choice, the worse on validation is delivered"
        in notes
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_chosen_trial_has_the_best_mean_over_fresh_seeds(unbroken, name):
    again = trials_of(unbroken, f"{name} confirmed")
    assert set(again["seed"]) == {1, 2}  # the search's is 0
    assert (again["state"] == "complete").all()  # nothing is stopped early here
    means = again.astype({"auc_worst": float}).groupby("origin")["auc_worst"].mean()
    study = study_of(unbroken, name)
    own = [item for item in study["confirmed"] if item["study"] == name]
    searched = trials_of(unbroken, name)["auc_worst"].astype(float)
    for candidate in own:
        item = candidate["objectives"]["auc_worst"]
        assert item["mean"] == pytest.approx(means[f"trial {candidate['trial']}"])
        assert item["optimism"] == pytest.approx(searched[candidate["trial"]] - item["mean"])
        assert item["optimism_low"] <= item["optimism"] <= item["optimism_high"]
    best = max(
        study["confirmed"], key=lambda confirmed: confirmed["objectives"]["auc_worst"]["mean"]
    )
    assert study["chosen"].items() >= {"study": best["study"], "trial": best["trial"]}.items()
    if name != "fairtune":
        assert best["study"] == name


def test_fairtune_is_never_worse_with_fresh_seeds_than_a_baseline_that_it_contains(unbroken):
    means = {name: chosen_fits(unbroken, name)[1]["auc_worst"].mean() for name in MODELS}
    assert means["fairtune"] == max(means.values())
    pool = {(item["study"], item["trial"]) for item in study_of(unbroken, "fairtune")["confirmed"]}
    for name in ("full", "head"):
        chosen = study_of(unbroken, name)["chosen"]
        assert (name, chosen["trial"]) in pool


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

    other = evenhand(*changed(words, "--lr-min", 1e-5), "--out", out)
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
        for seed in range(1, SEEDS + 1):
            seeds = [
                root / "models" / name / "seeds" / f"{seed}.parquet" for root in (out, unbroken)
            ]
            assert seeds[0].read_bytes() == seeds[1].read_bytes()
    results = [(root / "search.json").read_text() for root in (out, unbroken)]
    assert results[0] == results[1]


def test_a_finished_run_is_refused_and_reports_again(words, unbroken):
    before = (unbroken / "metrics.json").read_bytes()
    ended = evenhand(*words, "--out", unbroken)
    assert ended.status == 2
    assert "holds a finished run" in ended.err
    assert evenhand("report", unbroken).status == 0
    assert (unbroken / "metrics.json").read_bytes() == before
