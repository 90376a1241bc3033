"""`tune --search methods` and `both`, as users call it."""

from __future__ import annotations

import os
import signal
import time

import pandas as pd
import pytest
from tests.command import changed, evenhand, start, without

from evenhand.files import read_json

TILTED = "phantom:patients=120,size=16,tilt=0.6,tilt_test=0,minority=0.4,prevalence=0.5"
TRIALS = 3
STRATEGY = "full"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    small = ("--backbone", "test_resnet", "--weights", "none", "--image-size", 32)
    search = ("--search", "methods", "--method", "erm", "--method", "group-dro", "--trials", TRIALS)
    return (
        *("tune", TILTED, "--attribute", "group", "--device", "cpu", *small, *search),
        *("--target", "equalized_odds_difference", "--epochs", 1, "--batch-size", 32),
        *("--confirm", 1, "--confirm-seeds", 1, "--baseline", "full"),
        *("--lr-min", 1e-3, "--lr-max", 1e-2, "--cache", tmp_path_factory.mktemp("cache")),
    )


@pytest.fixture(scope="module")
def by_methods(words, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "methods"
    ended = evenhand(*words, "--out", out)
    assert ended.status == 0, ended.err
    return out


def trials_of(out, study):
    trials = pd.read_csv(out / "trials.csv", keep_default_na=False)
    return trials[trials["study"] == study]


def test_each_method_is_a_baseline_with_as_many_trials(by_methods):
    assert read_json(by_methods / "run.json")["models"] == ["fairtune", "full", "full-group-dro"]
    default = trials_of(by_methods, "full-group-dro")
    assert (len(default), {*default["method"]}, {*default["method_settings"]}) == (
        *(TRIALS, {"group-dro"}, {"rate=0.05"}),
    )
    assert {*trials_of(by_methods, "full")["method"]} == {"erm"}
    own = trials_of(by_methods, "fairtune")
    assert (own["adopted"] == "").sum() == TRIALS
    adopted = own[own["adopted"] != ""]
    assert adopted["origin"].tolist() == ["full"] * TRIALS + ["full-group-dro"] * TRIALS
    columns = ["equalized_odds_difference", "lr", "mask", "method", "method_settings"]
    result = pd.concat([trials_of(by_methods, item) for item in ("full", "full-group-dro")])
    assert adopted[columns].to_numpy().tolist() == result[columns].to_numpy().tolist()


def test_the_delivered_model_is_trained_by_the_chosen_method(by_methods):
    for name in ("fairtune", "full-group-dro"):
        about = read_json(by_methods / "models" / name / "model.json")
        trials = trials_of(by_methods, about["study"]).set_index("number")
        row = trials.loc[about["trial"]]
        text = f":{row['method_settings']}" if row["method_settings"] else ""
        assert about["method"] == row["method"] + text
        logged = {"weight of minority, class 1"} if row["method"] == "group-dro" else set()
        assert logged <= about["logged"][0].keys()


def test_the_page_says_which_method_was_chosen(by_methods):
    studies = {item["name"]: item for item in read_json(by_methods / "search.json")["studies"]}
    assert "methods" not in studies["full"]  # which has one alone
    assert {row["method"] for row in studies["fairtune"]["methods"]} == {"erm", "group-dro"}
    chosen = studies["fairtune"]["chosen"]
    about = read_json(by_methods / "models" / "fairtune" / "model.json")
    assert about["method"].partition(":")[0] == chosen["method"]
    assert about["lr"] == chosen["lr"]
    page = (by_methods / "report.html").read_text()
    assert f"Method chosen: {chosen['method']}" in page
    assert "Methods and equalized_odds_difference" in page


def test_what_a_method_warns_of_is_noted(words, tmp_path):
    alone = without(without(words, "--method"), "--method")
    wild = ("--search", "masks", "--method", "group-dro:rate=50,by=attribute", "--trials", 1)
    ended = evenhand(*changed(alone, *wild, "--confirm", 0), "--out", tmp_path / "run")
    assert ended.status == 0, ended.err
    notes = read_json(tmp_path / "run" / "run.json")["notes"]
    assert any(note.startswith("full: ") and "its labels may be wrong" in note for note in notes)


@pytest.mark.slow
def test_a_killed_search_of_methods_ends_as_an_unbroken_one(words, by_methods, tmp_path):
    out = tmp_path / "killed"
    process = start(*words, "--out", out)
    deadline = time.monotonic() + 120
    while not (out / "study.db").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(1.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert evenhand(*words, "--out", out).status == 0
    tables = [
        pd.read_csv(root / "trials.csv", keep_default_na=False).drop(columns="seconds")
        for root in (out, by_methods)
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    chosen = [(root / "models" / "fairtune" / "model.safetensors") for root in (out, by_methods)]
    assert chosen[0].read_bytes() == chosen[1].read_bytes()


def test_masks_and_methods_are_searched_together(words, tmp_path):
    out = tmp_path / "both"
    more = ("--search", "both", "--confirm", 0, "--trials", 4)
    ended = evenhand(*changed(words, *more), "--out", out)
    assert ended.status == 0, ended.err
    assert read_json(out / "run.json")["models"] == ["fairtune", "full"]
    own = trials_of(out, "fairtune")
    tried = ["head", "layernorm", "group-dro", "sampler"]
    assert own["origin"].tolist() == ["full"] * 4 + tried
    by_it = own.set_index("origin").loc["group-dro"]
    assert (by_it["method"], by_it["method_settings"]) == ("group-dro", "rate=0.05")
    assert by_it["mask"] == own["mask"].iloc[0]
    assert own["mask"].nunique() >= 2


def test_methods_that_the_data_do_not_allow_are_left_out_with_the_reason(words, tmp_path):
    few = [word for word in words if word not in ("--method", "erm", "group-dro")]
    few = changed(tuple(few), "--target", "auc", "--trials", 1, "--confirm", 0)
    few = [word for word in few if word not in ("--attribute", "group")]
    ended = evenhand(*few, "--out", tmp_path / "run")
    assert ended.status == 0, ended.err
    record = read_json(tmp_path / "run" / "run.json")
    assert record["models"] == ["fairtune", "full", "full-jtt", "full-swad"]
    notes = " ".join(record["notes"])
    assert "group-dro is not part of the search: --method group-dro needs the groups" in notes


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--search", "masks"), "--search masks trains by one method, and --method names 2"),
        (("--method", "group-dro:rate=1"), "--method group-dro is given twice"),
        (("--method", "dro"), "no method 'dro'; there are: cdann, coral"),
        (("--family", "blocks"), "--family and --space set the masks"),
        (("--search", "both", "--strategy", "head"), "--search both chooses the tuned parts"),
        (("--method", "soft-eodds:strength=x"), "strength='x'"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_and_leaves_nothing(words, tmp_path, more, message):
    command = changed(words, *more) if more[0] == "--search" else (*words, *more)
    ended = evenhand(*command, "--out", tmp_path / "run")
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "run").exists()


def test_one_method_with_nothing_to_search_is_refused(words, tmp_path):
    alone = [word for word in words if word not in ("group-dro",)]
    del alone[alone.index("erm") + 1]  # the flag of what was left out
    ended = evenhand(*alone, "--out", tmp_path / "run")
    assert ended.status == 2
    assert "erm is the only method, and none of its settings is searched" in ended.err
