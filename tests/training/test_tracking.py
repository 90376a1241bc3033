"""Trackers follow every training epoch by epoch, and change nothing of it.

The tracker is a stand-in for the package ``wandb``, which accelerate's own tracker calls; with
TensorBoard installed, its files are read, too.
"""

from __future__ import annotations

import json
import math
import sys

import pytest
from tests.command import PHANTOMS, evenhand, training

from evenhand import read_predictions
from evenhand.metrics import attribute_groups, find_target
from evenhand.tables.attributes import group_of
from evenhand.training.tracking import Trackers

SERIES = "series_phantom:patients=160,steps=12,seed=1"
STAND_IN = '''
"""Writes what it is given into a file of its own for each run."""
import json, os, pathlib

FOLDER = pathlib.Path(os.environ["STAND_IN"])

class Run:
    def __init__(self, name):
        self.file = (FOLDER / name.replace("/", "+")).open("x")  # nobody else has it

    def log(self, values, step):
        self.file.write(json.dumps({"step": step, **values}) + "\\n")
        self.file.flush()
        if os.environ.get("STAND_IN_FAILS"):
            raise OSError("no route to the server")

    def finish(self):
        self.file.write("finished")
        self.file.close()

class config:
    update = staticmethod(lambda values, allow_val_change: None)

def init(project, name, group):
    if os.environ.get("STAND_IN_CLOSED"):
        raise RuntimeError("not logged in")
    return Run(name)
'''


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """Return what a stand-in tracker was given: run → the numbers of each epoch."""
    folder, package = tmp_path / "followed", tmp_path / "packages" / "wandb"
    folder.mkdir()
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("STAND_IN", str(folder))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)

    def read():
        runs = {}
        for file in sorted(folder.iterdir()):
            *epochs, end = file.read_text().splitlines()
            assert end == "finished"
            runs[file.name.partition("+")[2]] = [json.loads(line) for line in epochs]
        return runs

    return read


def finetune(tmp_path, out, *words):
    usual = training(tmp_path / "cache", "--epochs", 2, "--target", "auc_worst", *words)
    return evenhand("finetune", PHANTOMS, *usual, "--out", tmp_path / out)


def test_a_fit_is_followed_and_stays_the_same(followed, tmp_path):
    assert finetune(tmp_path, "a", "--track", "wandb").status == 0
    assert finetune(tmp_path, "b").status == 0
    predictions = [tmp_path / run / "models/full/predictions.parquet" for run in "ab"]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()
    ((name, epochs),) = followed().items()
    assert name == "full"
    assert [epoch["step"] for epoch in epochs] == [1, 2]
    val = read_predictions(predictions[0]).of_split("val")
    groups = {"group": attribute_groups("group", group_of(val.table, "group", val.levels))}
    target = find_target("auc_worst")
    last = epochs[-1]
    assert last["validation/auc_worst"] == target.value(val.labels, val.scores, groups)
    by_group = target.by_group(val.labels, val.scores, groups)
    assert by_group.keys() == {"auc:group:majority", "auc:group:minority"}
    assert {f"validation/{name}": value for name, value in by_group.items()}.items() <= last.items()
    assert min(by_group.values()) == last["validation/auc_worst"]
    assert all(math.isfinite(epoch["loss"]) and epoch["seconds"] > 0 for epoch in epochs)


@pytest.mark.slow
def test_workers_follow_each_trial_in_a_run_of_its_own(followed, tmp_path):
    words = training(tmp_path / "cache", "--epochs", 1, "--trials", 2, "--confirm", 0)
    words = (*words, "--target", "auc_worst", "--strategy", "full", "--workers", 2)
    out = tmp_path / "run"
    assert evenhand("tune", PHANTOMS, *words, "--track", "wandb", "--out", out).status == 0
    runs = followed()
    assert len(runs) >= 2
    assert {name.rpartition("-")[0] for name in runs} <= {"fairtune", "full", "head"}
    assert all(len(epochs) == 1 for epochs in runs.values())


def test_pre_training_pruning_and_assessment_are_followed(followed, tmp_path):
    cache, follow = ("--cache", tmp_path / "cache", "--device", "cpu"), ("--track", "wandb")
    encoder = ("pretrain", SERIES, "--epochs", 2, *cache, *follow, "--out", tmp_path / "encoder")
    assert evenhand(*encoder).status == 0
    assert finetune(tmp_path, "run").status == 0
    prune = ("prune", tmp_path / "run", "--attribute", "group", "--batches", 1, "--share", 25)
    prune = (*prune, "--limit", 30, "--budget", 100, "--finetune-epochs", 2, *cache, *follow)
    assert evenhand(*prune, "--out", tmp_path / "pruned").status == 0
    grid = ("--cell", "frozen0", "--seeds", 1, "--epochs", 1, "--pretrain-epochs", 1)
    assess = ("assess", SERIES, "--attribute", "group", *grid, *cache, *follow)
    assert evenhand(*assess, "--out", tmp_path / "assessed").status == 0
    runs = followed()
    assert {name: len(epochs) for name, epochs in runs.items()} == {
        **{"encoder": 2, "finetuned": 2},
        **{"encoders-seed0": 1, "frozen0-seed0": 1, "supervised-seed0": 1},
    }
    assert runs["encoder"][0].keys() == {"step", "loss", "validation/held_out_loss", "seconds"}
    assert {"loss", "validation/auc_gap", "validation/auc:group:minority"} < {*runs["finetuned"][0]}


def test_each_fit_of_a_benchmark_is_followed_and_stays_the_same(followed, tmp_path):
    words = ("--folds", 2, "--trials", 1, "--seeds", 1, "--these-models")
    words = (*words, "--method", "group-balance", "--start", "ssl:simclr", "--pretrain-epochs", 1)
    words = training(tmp_path / "cache", "--epochs", 2, "--target", "auc_worst", *words)
    command = ("benchmark", PHANTOMS, *words, "--out")
    assert evenhand(*command, tmp_path / "a", "--track", "wandb").status == 0
    assert evenhand(*command, tmp_path / "b").status == 0
    entries = ("erm", "group-balance", "start-ssl-simclr")
    for entry in entries:
        tables = [tmp_path / out / f"models/{entry}/predictions.parquet" for out in "ab"]
        assert tables[0].read_bytes() == tables[1].read_bytes()
    runs = followed()
    fits = {f"{entry}-fold{fold}-seed0-trial0" for entry in entries for fold in (1, 2)}
    encoders = {f"start-ssl-simclr-fold{fold}-seed0-encoder" for fold in (1, 2)}
    assert runs.keys() == fits | encoders
    assert all([epoch["step"] for epoch in runs[fit]] == [1, 2] for fit in fits)
    shown = {"loss", "validation/auc_worst", "validation/auc:group:minority", "seconds"}
    assert all(shown < epoch.keys() for fit in fits for epoch in runs[fit])


def test_a_tracker_that_is_missing_or_closed_is_said(followed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("evenhand.training.settings.find_spec", lambda name: None)
        ended = finetune(tmp_path, "run", "--track", "mlflow")
    assert ended.status == 2
    assert "mlflow is not installed: pip install mlflow" in ended.err
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("STAND_IN_CLOSED", "yes")
    ended = finetune(tmp_path, "run", "--track", "wandb")
    assert ended.status == 2
    assert "--track wandb does not start: not logged in" in ended.err
    assert finetune(tmp_path, "run").status == 0  # the same run goes on without it


def test_a_tracker_that_fails_later_ends_no_training(followed, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STAND_IN_FAILS", "yes")
    assert finetune(tmp_path, "run", "--track", "wandb").status == 0
    assert [len(epochs) for epochs in followed().values()] == [1]
    assert "--track wandb ended in epoch 1" in caplog.text


def test_tensorboard_has_a_folder_for_each_fit(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert finetune(tmp_path, "run", "--track", "tensorboard").status == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "full")).Reload()
    assert len(events.Scalars("validation/auc_worst")) == 2
    words = ("--track", "tensorboard", "--overwrite")
    assert finetune(tmp_path, "run", *words).status == 0  # its files are the run's
    assert len([*(tmp_path / "run" / "tensorboard" / "full").iterdir()]) == 1


def test_nobody_follows_by_default():
    assert not Trackers()
    Trackers().log(1, {"loss": 1.0})
