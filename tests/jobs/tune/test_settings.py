"""Each setting of the search changes something, through the command line."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from tests.command import PHANTOMS, changed, evenhand, training

from evenhand.files import read_json, write_json
from evenhand.metrics import costs, find_rule, find_target, front, rank_points

GOALS = ("auc", "auc_worst")
TRIALS = 5


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def search_words(cache):
    flags = training(cache, "--epochs", 2, "--trials", TRIALS, "--baseline", "head")
    return ("tune", PHANTOMS, *flags, "--lr-max", 1e-2)


@pytest.fixture(scope="module")
def tuned(cache, tmp_path_factory):
    """Run a search, and return its folder and what was printed."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name, *words):
        out = folder / name
        ended = evenhand(*changed(search_words(cache), *words), "--out", out)
        assert ended.status == 0, ended.err
        return out, ended.out

    return run


@pytest.fixture(scope="module")
def several(tuned):
    words = [word for goal in GOALS for word in ("--objective", goal)]
    return tuned("several", *words, "--pick", "budget=1", "--confirm", 0, "--space", "staged")


def trials_of(out, study="fairtune"):
    trials = pd.read_csv(out / "trials.csv", keep_default_na=False)
    return trials[trials["study"] == study]


def test_several_objectives_keep_their_front_and_train_to_the_end(several):
    out, printed = several
    assert "no trial is stopped early, as there are several targets" in printed
    trials = trials_of(out)
    assert (trials["state"] == "complete").all()
    assert (trials["epochs"] == 2).all()
    cost = costs(trials[list(GOALS)].to_numpy(float), [*map(find_target, GOALS)])
    assert trials["pareto"].tolist() == front(cost).tolist()
    content = read_json(out / "search.json")
    assert [item["name"] for item in content["objectives"]] == list(GOALS)
    (study,) = [item for item in content["studies"] if item["name"] == "fairtune"]
    assert study["front"] == trials.loc[trials["pareto"], "number"].tolist()


def test_the_rule_picks_what_is_fitted(several):
    out, _ = several
    objectives = [*map(find_target, GOALS)]
    trials = trials_of(out)
    cost = costs(trials[list(GOALS)].to_numpy(float), objectives)
    wanted = rank_points(cost, find_rule("budget=1", objectives))[0]
    model = read_json(out / "models" / "fairtune" / "model.json")
    assert model["trial"] == trials["number"].iloc[wanted]
    row = trials.iloc[wanted]
    assert model["val"] == {goal: pytest.approx(row[goal], abs=1e-12) for goal in GOALS}


def test_a_staged_space_draws_where_to_begin(several):
    out, _ = several
    study = optuna.load_study(study_name="several/fairtune", storage=f"sqlite:///{out}/study.db")
    depths = [trial.params["first"] for trial in study.trials]
    assert depths[:TRIALS] == [6] * TRIALS  # nowhere: the trials of head only
    assert depths[TRIALS] == 0  # every LayerNorm
    for trial in study.trials:
        request = [name for name in trial.params if name.startswith("blocks.")]
        assert all(int(name.split(".")[1]) >= trial.params["first"] for name in request)


def test_without_confirmation_the_chosen_trial_itself_is_delivered(several):
    out, printed = several
    assert printed.startswith(f"{2 * TRIALS} fits at most: 2 searches of {TRIALS} trials, 2 epochs")
    for name in ("fairtune", "head"):
        (study,) = [s for s in read_json(out / "search.json")["studies"] if s["name"] == name]
        model = read_json(out / "models" / name / "model.json")
        assert model["seed"] == study["chosen"]["seed"] == 0
        files = {path.name for path in (out / "models" / name).iterdir()}
        assert files == {"model.safetensors", "model.json", "predictions.parquet"}


def test_without_confirmation_there_are_no_fresh_seeds(several):
    trials = pd.read_csv(several[0] / "trials.csv", keep_default_na=False)
    assert set(trials["study"]) == {"fairtune", "head"}
    assert set(trials["seed"]) == {0}


def test_bound_family_and_baseline_change_what_is_searched(tuned):
    words = ("--objective-bound", "--family", "blocks.5.attn,blocks.5.mlp", "--confirm", 0)
    out, _ = tuned("bound", *words, "--lr-min", 1e-2)
    trials = trials_of(out)
    tried = trials[trials["state"].isin(["complete", "pruned"])]
    assert len(tried) == tried["mask"].nunique() == 4  # all that there is with one learning rate
    assert set(" ".join(trials["mask"]).split()) == {"blocks.5.attn", "blocks.5.mlp"}
    plain, _ = tuned("plain", "--family", "blocks.5.attn", "--lr-min", 1e-2, "--confirm", 0)
    same = [trials_of(root, "head")["auc_worst"].astype(float).iloc[0] for root in (out, plain)]
    assert same[0] < same[1]  # the same fit, judged by the lower end
    assert np.isfinite(same).all()
    assert "lower end of its interval" in (out / "report.html").read_text()


def test_without_stopping_every_trial_is_trained_to_its_end(tuned):
    words = ("--epochs", 4, "--confirm", 0, "--baseline", "full", "--lr-min", 1e-4)
    halving, says_less = tuned("halving", *words)
    none, says = tuned("none", *words, "--stopping", "none")
    assert "pruned trials and frozen layers make it less" in says_less
    assert "min; frozen layers make it less" in says
    assert (pd.read_csv(none / "trials.csv")["state"] == "complete").all()
    stopped = pd.read_csv(halving / "trials.csv").query("state == 'pruned'")
    assert set(stopped["epochs"]) == {2}  # the warm-up and one epoch after it


SECRET = "hunter2"  # in the URL of a file, as a server's URL would have one


@pytest.fixture(scope="module")
def elsewhere(tuned, tmp_path_factory):
    """A search of three objectives whose study is kept elsewhere, with an old file in its cache."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "activations").mkdir()
    (folder / "activations" / "old.npy").write_bytes(bytes(2 * 10**6))
    words = ["--epochs", 1, "--confirm", 0, "--pick", "minimax", "--prefix-disk", 1]
    words += [word for goal in ("auc_gap", "auc", "max_loss") for word in ("--objective", goal)]
    words += ["--cache", folder, "--storage"]
    url = f"sqlite:///file:{folder}/study.db?uri=true&password="
    out, printed = tuned("elsewhere", *words, f"{url}{SECRET}")
    return out, printed, folder, (*words, f"{url}other")


def test_a_study_is_kept_where_the_url_says_and_the_url_nowhere(elsewhere):
    out, printed, folder, _ = elsewhere
    names = optuna.get_all_study_names(f"sqlite:///{folder}/study.db")
    assert set(names) == {"elsewhere/fairtune", "elsewhere/head"}
    assert not (out / "study.db").exists()
    assert SECRET not in printed
    written = [path for path in (*out.rglob("*"), folder / "study.db") if path.is_file()]
    assert [path.name for path in written if SECRET.encode() in path.read_bytes()] == []


def test_a_killed_run_goes_on_under_another_password_and_with_other_room(elsewhere, cache):
    out, _, _, words = elsewhere
    before = trials_of(out)
    facts = read_json(out / "run.json")
    write_json(out / "run.json", facts | {"status": "running"})
    room = ("--prefix-memory", 0, "--prefix-disk", 2)
    again = changed(changed(search_words(cache), *words), *room)
    ended = evenhand(*again, "--out", out)
    assert ended.status == 0, ended.err
    pd.testing.assert_frame_equal(trials_of(out), before)


def test_overwriting_searches_anew_where_the_study_is_elsewhere(tuned, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    words = ("--storage", url, "--trials", 1, "--epochs", 1, "--confirm", 0)
    optuna.create_study(storage=url, study_name="another/fairtune").ask()

    def begun():
        out, _ = tuned("again", *words, "--overwrite")
        study = optuna.load_study(study_name="again/fairtune", storage=url)
        assert len(study.trials) == len(trials_of(out)) == 2  # head's one, and its own
        return study.trials[0].datetime_start

    assert begun() < begun()
    assert len(optuna.load_study(study_name="another/fairtune", storage=url).trials) == 1


def test_minimax_picks_what_is_fitted(elsewhere):
    out = elsewhere[0]
    goals = [find_target(item["name"]) for item in read_json(out / "search.json")["objectives"]]
    for name in ("fairtune", "head"):
        cost = costs(trials_of(out, name)[[goal.name for goal in goals]].to_numpy(float), goals)
        wanted = rank_points(cost, find_rule("minimax", goals))[0]
        assert read_json(out / "models" / name / "model.json")["trial"] == wanted


def test_what_was_kept_on_disk_makes_room(elsewhere):
    files = {path.name for path in (elsewhere[2] / "activations").iterdir()}
    assert files
    assert "old.npy" not in files


@pytest.mark.slow
def test_the_database_opens_in_optuna_dashboard(several, unused_port):
    binary = Path(sysconfig.get_path("scripts")) / "optuna-dashboard"
    if not binary.exists():
        pytest.skip("optuna-dashboard is not installed")
    storage = f"sqlite:///{several[0]}/study.db"
    words = [binary, storage, "--host", "127.0.0.1", "--port", str(unused_port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        root = f"http://127.0.0.1:{unused_port}/api/studies"
        studies = fetch(root)["study_summaries"]
        names = {study["study_name"]: study["study_id"] for study in studies}
        assert names.keys() == {"several/fairtune", "several/head"}
        result = fetch(f"{root}/{names['several/fairtune']}")
        assert len(result["trials"]) == len(trials_of(several[0]))
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fetch(url):
    """Return what a server says that may take a while to start."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer")
