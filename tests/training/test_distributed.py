"""Training and scoring with two processes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from tests.command import evenhand, training

from evenhand.experiments.runs import open_run
from evenhand.tables.predictions import read_predictions

SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import torch

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.splits import split_patients
from evenhand.cohort.store.samples import store_samples
from evenhand.masks.masks import Schedule
from evenhand.networks.model import build_model
from evenhand.tables.predictions import write_predictions
from evenhand.training.device import PATIENCE, make_accelerator
from evenhand.training.loop import fit
from evenhand.training.predict import predict_cohorts
from evenhand.training.frozen_prefix import ActivationFiles
from evenhand.training.settings import FitSettings

folder = Path(sys.argv[1])
settings = FitSettings(epochs=2, batch_size=16, device="cpu", lr=1e-3)
accelerator = make_accelerator(settings)
assert accelerator.num_processes == 2
group = torch.distributed.group.WORLD._get_backend(accelerator.device)
assert group.options._timeout == PATIENCE
cohort = store_samples(make_phantoms(PhantomSettings(patients=61, size=32)), 32, folder / "cache")
splits = split_patients(cohort, ["group"], (0.6, 0.2, 0.2), np.random.default_rng(0))
model = build_model("test_vit", "none", 32, cohort.classes, 0)
early, late = frozenset({"blocks.3.attn"}), frozenset({"blocks.1", "blocks.3.attn"})
schedule = Schedule(lambda epoch: late if epoch else early)
cache = ActivationFiles(10**9, folder / "activations", 10**9)
before = {name: weight.clone() for name, weight in model.state_dict().items()}
on_epoch = lambda epoch: float(epoch.scores.sum())
model = fit(model, splits, schedule, settings, on_epoch=on_epoch, cache=cache)
changed = {name for name, weight in model.state_dict().items() if not weight.equal(before[name])}
assert any(name.startswith("backbone.blocks.1.") for name in changed)
assert any(name.startswith("backbone.blocks.3.attn.") for name in changed)
assert not any(name.startswith("backbone.blocks.2.") for name in changed)
found = predict_cohorts(model, splits.items(), accelerator)
write_predictions(folder / f"{accelerator.process_index}.parquet", found)
accelerator.end_training()
"""


def launched(script, *words):
    """Run a script in two processes."""
    launch = [*("-m", "torch.distributed.run"), "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [sys.executable, *launch, str(script), *map(str, words)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_train_what_thaws_late_and_score_every_row(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = launched(script, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    first, other = (read_predictions(tmp_path / f"{rank}.parquet").table for rank in (0, 1))
    assert first.equals(other)
    assert first["sample_id"].nunique() == len(first) == 61
    assert np.isfinite(first["score"]).all()
    assert first["score"].nunique() > 30


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_one_of_them_prints_and_writes(tmp_path):
    """The batches are the same, each sample augmented as it would be, and half are in each."""
    script = tmp_path / "script.py"
    script.write_text("from evenhand.cli import main; main()")
    words = (
        "finetune",
        "phantom:patients=80,size=32,seed=1",
        *training(tmp_path / "cache", "--batch-size", 16),
    )
    words += ("--epochs", 2, "--lr", 1e-3, "--out")
    assert evenhand(*words, tmp_path / "one").status == 0
    for again in ((), ("--overwrite",)):  # the main process alone clears what is there
        done = launched(script, *words, tmp_path / "two", *again)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("report: ") == 1
        assert done.stdout.count("everybody  ") == 2  # AUC and accuracy, in the table
    first, two = (open_run(tmp_path / name) for name in ("one", "two"))
    assert two.finished
    assert {path.name for path in two.root.iterdir()} == {
        path.name for path in first.root.iterdir()
    }
    scores = [read_predictions(run.predictions_file("full")).table["score"] for run in (first, two)]
    assert (
        len(read_predictions(first.predictions_file("full")).table.query("split == 'train'")) % 16
        == 0
    )
    np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.slow
def test_two_processes_score_with_the_running_statistics_that_are_saved(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from evenhand.cli import main; main()")
    data, cache = "phantom:patients=80,size=32,seed=1", tmp_path / "cache"
    words = ("finetune", data, *training(cache, "--backbone", "test_resnet", "--batch-size", 16))
    words += ("--epochs", 2, "--patience", 2, "--lr", 1e-3)
    done = launched(script, *words, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    alone = ("predict", tmp_path / "two", data, "--cache", cache, "--out", tmp_path / "alone")
    assert evenhand(*alone).status == 0
    paths = (next(open_run(tmp_path / name).root.rglob("*.parquet")) for name in ("two", "alone"))
    scores = [read_predictions(path).table.set_index("sample_id")["score"] for path in paths]
    np.testing.assert_allclose(*(score.sort_index() for score in scores), atol=1e-5)


def test_a_launcher_s_processes_do_no_other_job(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = evenhand("audit", tmp_path, "--out", tmp_path / "out")
    assert (ended.status, "only `evenhand finetune` shares" in ended.err) == (2, True)
