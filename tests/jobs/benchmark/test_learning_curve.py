"""Learning curves of erm: fewer training patients, the same learning rate, as many steps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tests.command import PHANTOMS, evenhand, training

from evenhand.jobs.benchmark import learning_curve as curves
from evenhand.jobs.benchmark.plan import hash_of
from evenhand.tables.predictions import read_predictions

RECIPE = (
    *("benchmark", PHANTOMS, "--epochs", 1, "--trials", 1, "--folds", 2, "--seeds", 2),
    *("--lr-min", "1e-3", "--lr-max", "1e-2", "--strategy", "head"),
)
BATCH = 32  # as `training` has it
CURVES = ("--curve", "everybody", "--curve", "group=minority")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    return (*RECIPE, *training(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("curves") / "run"
    ended = evenhand(*command, *CURVES, "--out", out)
    assert ended.status == 0, ended.err
    assert "and 24 fits of learning curves" in ended.out
    return out


def read(path):
    return json.loads(path.read_text())


def test_every_point_has_its_patients_the_rate_of_erm_and_its_steps(run):
    for name, whole in (("everybody", None), ("group-minority", "minority")):
        for share in (25, 50, 75):
            for fold, seed in ((1, 0), (2, 1)):
                folder = f"fold{fold}-seed{seed}"
                point = read(run / "fits" / f"curve-{name}-{share}" / folder / "fit.json")
                erm = read(run / "fits" / "erm" / folder / "fit.json")
                assert point["lr"] == erm["lr"]
                assert point["patients"] == pytest.approx(share / 100 * point["whole"], abs=3)
                if whole is None:
                    steps, most = (math.ceil(point[key] / BATCH) for key in ("patients", "whole"))
                    assert point["epochs"] == round(most / steps)


def test_points_are_tested_on_the_patients_of_erm(run):
    names = [read_predictions(path).table["sample_id"].tolist() for path in
             sorted(run.glob("fits/*/fold1-seed0/predictions.parquet"))]  # fmt: skip
    assert len(names) == 2 + 6
    assert all(name == names[0] for name in names)


def test_the_record_holds_every_curve_and_the_plan_none(run):
    record = read(run / "benchmark.json")
    assert [curve["name"] for curve in record["curves"]] == ["everybody", "group=minority"]
    assert record["hash"] == hash_of(record["plan"])
    assert "curve" not in json.dumps(record["plan"])
    erm = next(entry for entry in record["entries"] if entry["name"] == "erm")
    for curve in record["curves"]:
        shares = [point["share"] for point in curve["points"]]
        assert shares == [0.25, 0.5, 0.75, 1.0]
        last = curve["points"][-1]["numbers"]
        assert last == [item for item in erm["numbers"] if item["base"] == "auc"]
        before = {(item["attribute"], item["group"], item["aggregate"]): item["value"]
                  for item in curve["points"][1]["numbers"]}  # fmt: skip
        for change, number in zip(curve["doubling"], last, strict=True):
            key = (number["attribute"], number["group"], number["aggregate"])
            assert change["value"] == pytest.approx(number["value"] - before[key])
            assert change["low"] <= change["value"] <= change["high"]


def test_the_page_says_what_more_training_patients_buy(run):
    page = (run / "report.html").read_text()
    assert "Gain from more training patients" in page
    assert "patients (group=minority in training), the AUC of" in page


def test_report_writes_the_same_again(run):
    before = (run / "benchmark.json").read_bytes()
    assert evenhand("report", run).status == 0
    assert (run / "benchmark.json").read_bytes() == before


def test_a_curve_is_added_without_another_fit_of_entries(command, run, tmp_path, monkeypatch):
    import shutil

    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "fits" / "curve-everybody-50" / "fold1-seed0")  # as after a kill
    built = []
    real = curves.train_model

    def train(task, *rest):
        built.append(len(task.splits.train))
        return real(task, *rest)

    monkeypatch.setattr(curves, "train_model", train)
    ended = evenhand(*command, *CURVES, "--curve", "group=majority", "--add", "--out", copy)
    assert ended.status == 0, ended.err
    assert len(built) == 1 + 12
    record = read(copy / "benchmark.json")
    assert [curve["name"] for curve in record["curves"]][-1] == "group=majority"
    old, new = (np.array([item["value"] for item in read(path / "benchmark.json")["curves"][0]
                          ["points"][1]["numbers"]]) for path in (run, copy))  # fmt: skip
    assert old == pytest.approx(new)


@pytest.mark.parametrize(
    ("text", "says"),
    [("minority", "--curve minority: give the patients"), ("group=none", "none")],
)
def test_groups_that_are_not_there_are_refused_before_any_fit(text, says, command, tmp_path):
    ended = evenhand(*command, "--curve", text, "--out", tmp_path / "run")
    assert ended.status == 2
    assert says in ended.err
    assert not (tmp_path / "run").exists()
