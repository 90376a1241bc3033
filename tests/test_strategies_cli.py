"""Strategies that add parameters, thaw by epoch or begin anew, through the commands that follow."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.command import PHANTOMS, evenhand, training

from evenhand.experiments.runs import open_run
from evenhand.files import read_json
from evenhand.networks.model import load_model

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def lora(cache, tmp_path_factory):
    """A run of LoRA in two of the blocks."""
    out = tmp_path_factory.mktemp("runs") / "lora"
    words = training(cache, "--strategy", "lora:1,3", "--epochs", 1, "--lr", 1e-3, "--out", out)
    ended = evenhand("finetune", PHANTOMS, *words)
    assert ended.status == 0, ended.err
    return out


def done(*words):
    ended = evenhand(*words)
    assert ended.status == 0, ended.err
    return ended


def test_a_lora_model_is_kept_as_a_plain_one(lora):
    """Its update is merged into the weights, which no library but ours has to know of."""
    names = [name for name, _ in load_model(lora / "models" / "lora-1-3").named_parameters()]
    assert not any("lora" in name for name in names)


def test_a_lora_model_scores_its_own_patients_as_its_run_did(lora, cache, tmp_path):
    done("predict", lora, PHANTOMS, "--cache", cache, "--device", "cpu", "--out", tmp_path / "p")
    before = open_run(lora).predictions("lora-1-3").table
    again = open_run(tmp_path / "p").predictions("lora-1-3").table
    both = before.merge(again, on="sample_id", suffixes=("", "_again"))
    assert len(both) == len(before) == 160
    assert (both["score"] - both["score_again"]).abs().max() < 1e-6


def test_a_lora_model_is_exported(lora, tmp_path):
    ended = done("export", lora, "--format", "safetensors", "--out", tmp_path / "m.safetensors")
    assert "its logits are within 0.0e+00" in ended.out
    assert "lora-1-3" in (tmp_path / "m.md").read_text()


@pytest.mark.slow
def test_a_lora_model_is_exported_to_onnx(lora, tmp_path):
    pytest.importorskip("onnxscript")
    done("export", lora, "--out", tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").stat().st_size > 10_000


def test_a_lora_model_is_pruned(lora, cache, tmp_path):
    words = ("--attribute", "group", "--batches", 1, "--limit", 20, "--device", "cpu")
    done("prune", lora, *words, "--cache", cache, "--out", tmp_path / "pruned")
    curve = pd.read_csv(tmp_path / "pruned" / "curve.csv")
    assert curve["sparsity"].max() > 0.09  # one step at least
    assert open_run(tmp_path / "pruned").models == ("before", "pruned")


@pytest.mark.slow
def test_a_search_is_compared_with_every_kind_of_strategy(cache, tmp_path):
    lists = {
        "units-blocks.1.attn": "blocks.1.attn",
        "units-blocks.4.mlp+blocks.5.mlp": "blocks.5.mlp,blocks.4.mlp",
    }
    named = ("lora", "gradual", "scratch", "last-1")
    baselines = (*named, *lists)
    words = [word for name in (*named, *lists.values()) for word in ("--baseline", name)]
    words += ["--trials", 2, "--confirm", 1, "--confirm-seeds", 1, "--epochs", 2]
    done("tune", PHANTOMS, *training(cache, *words, "--out", tmp_path / "run"))
    run = open_run(tmp_path / "run")
    assert run.models == ("fairtune", *baselines)
    rows = read_json(run.root / "metrics.json")["rows"]
    paired = {row["against"] for row in rows if row["model"] == "fairtune"} - {None}
    assert paired == set(baselines)
    trials = pd.read_csv(run.root / "trials.csv")
    assert (trials.groupby("study").size() >= 1).all()
    for name, units in lists.items():
        assert set(trials["mask"][trials["study"] == name]) == {" ".join(sorted(units.split(",")))}
        assert set(read_json(run.folder(name) / "model.json")["mask"]) == set(units.split(","))
    assert list(lists)[1] in (run.root / "report.html").read_text()
