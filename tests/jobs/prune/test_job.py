"""FairPrune as users call it: what it leaves, what it keeps, and that a kill costs nothing."""

from __future__ import annotations

import os
import signal
import time

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tests.command import changed, evenhand, start, without

from evenhand import load_model, read_predictions
from evenhand.files import read_json
from evenhand.training.loop import fit

TABLES = {"splits.csv", "seen.csv", "curve.csv", "saliency.csv"}
FILES = {"run.json", "models", "metrics.json", "report.html", "verdicts.json", *TABLES}


@pytest.fixture(scope="module")
def pruned(trained, cache, tmp_path_factory):
    """A pruning with fine-tuning, and what the run it came from looked like before."""
    out = tmp_path_factory.mktemp("pruned") / "run"
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    flags = ("--attribute", "group", "--cache", cache, "--device", "cpu", "--batches", 2)
    words = (
        "prune",
        trained,
        *flags,
        "--share",
        25,
        "--budget",
        60,
        "--objective",
        "log_loss_gap",
        "--finetune-epochs",
        1,
    )
    ended = evenhand(*words, "--out", out)
    assert ended.status == 0, ended.err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    return out, ended


def test_whom_the_model_has_met_stays_known(trained, pruned):
    splits = pd.read_csv(trained / "splits.csv")
    seen = pd.read_csv(pruned[0] / "seen.csv")
    assert set(seen["patient_id"]) == set(splits["patient_id"][splits["split"] == "train"])


def test_the_numbers_of_each_layer_are_kept_by_group(pruned):
    out, _ = pruned
    table, facts = pd.read_csv(out / "saliency.csv"), read_json(out / "pruning.json")
    groups = [facts["unprivileged"], *facts["betas"]]
    mask = load_file(out / "models" / "pruned" / "mask.safetensors")
    layers = {layer["name"]: layer for layer in facts["premise"]["layers"]}
    assert {*table["parameter"]} == {*layers}
    for name, rows in table.groupby("parameter"):
        assert len(rows) == min(layers[name]["size"], 100)
        assert rows["rank"].is_monotonic_increasing
        assert rows[f"change:{groups[0]}"].is_monotonic_increasing
        assert (mask[name].numpy().flatten()[rows["place"]] == (rows["pruned"] == 0)).all()
        if len(rows) == layers[name]["size"]:
            for group in groups:
                total = layers[name]["saliency"][group]
                assert rows[f"change:{group}"].sum() == pytest.approx(total, rel=1e-4)
    assert "Saliency of each parameter of a layer" in (out / "report.html").read_text()


def test_the_files_of_the_contract(pruned):
    out, ended = pruned
    assert {path.name for path in out.iterdir()} == {*FILES, "pruning.json"}
    assert {path.name for path in (out / "models" / "pruned").iterdir()} == {
        *("model.safetensors", "model.json", "mask.safetensors", "predictions.parquet")
    }
    facts = read_json(out / "run.json")
    assert (facts["status"], facts["chosen"]) == ("finished", "finetuned")
    rows = pd.DataFrame(read_json(out / "metrics.json")["rows"])
    assert list(rows["model"].unique()) == ["before", "pruned", "finetuned"]
    paired = rows.dropna(subset="against")
    assert set(zip(paired["model"], paired["against"], strict=True)) == {
        *(("finetuned", "pruned"), ("finetuned", "before"), ("pruned", "before"))
    }
    assert (
        "On the validation patients by which a step is chosen, auc is worst for minority"
        in ended.out
    )


def test_the_curve_has_every_step_and_the_best_of_them_is_the_model(pruned):
    out, _ = pruned
    curve, facts = pd.read_csv(out / "curve.csv"), read_json(out / "pruning.json")
    assert curve["step"].tolist() == list(range(len(curve)))
    assert curve["sparsity"].is_monotonic_increasing
    assert curve["sparsity"].iloc[-1] == pytest.approx(0.6, abs=1e-4)
    assert curve.loc[facts["chosen"], "log_loss_gap"] == curve["log_loss_gap"].min()
    weights = load_file(out / "models" / "pruned" / "model.safetensors")
    mask = load_file(out / "models" / "pruned" / "mask.safetensors")
    assert all(torch.equal(weights[name] != 0, is_kept) for name, is_kept in mask.items())
    gone = sum(int((~is_kept).sum()) for is_kept in mask.values())
    total = sum(is_kept.numel() for is_kept in mask.values())
    assert gone / total == pytest.approx(curve.loc[facts["chosen"], "sparsity"])
    layers = {layer["name"]: layer["pruned"] for layer in facts["premise"]["layers"]}
    assert layers == {name: int((~is_kept).sum()) for name, is_kept in mask.items()}


def test_before_is_the_runs_own_model(pruned, trained):
    out, _ = pruned
    ours, theirs = (
        read_predictions(root / "predictions.parquet").table
        for root in (out / "models" / "before", trained / "models" / "full")
    )
    pd.testing.assert_frame_equal(ours, theirs)


def test_fine_tuning_keeps_the_zeros_bit_for_bit(pruned):
    out, _ = pruned
    mask = load_file(out / "models" / "finetuned" / "mask.safetensors")
    weights = load_file(out / "models" / "finetuned" / "model.safetensors")
    pruned_weights = load_file(out / "models" / "pruned" / "model.safetensors")
    for name, is_kept in mask.items():
        assert not weights[name][~is_kept].view(torch.int32).any()
        assert not torch.equal(weights[name], pruned_weights[name])
    assert not torch.equal(weights["head.bias"], pruned_weights["head.bias"])


def test_the_pruned_model_loads_like_any_other(pruned, cache, tmp_path):
    out, _ = pruned
    model = load_model(out / "models" / "pruned")
    assert any((p == 0).float().mean() > 0.1 for p in model.parameters())
    words = ("predict", out, "phantom:patients=40,size=32,seed=5", "--model", "pruned")
    assert evenhand(*words, "--cache", cache, "--out", tmp_path / "predicted").status == 0


def test_a_second_pruning_goes_on_from_the_first(pruned, cache, tmp_path, monkeypatch):
    out, _ = pruned
    batch_sizes = []

    def watched(model, splits, schedule, settings, **more):
        batch_sizes.append(settings.batch_size)
        return fit(model, splits, schedule, settings, **more)

    monkeypatch.setattr("evenhand.jobs.prune.job.fit", watched)
    flags = ("--attribute", "group", "--cache", cache, "--device", "cpu", "--batches", 1)
    goal = ("--share", 100, "--limit", 70, "--budget", 90, "--objective", "log_loss_gap")
    kinds = ("--prunable", "conv", "--prunable", "head", "--finetune-epochs", 1)
    assert evenhand("prune", out, *flags, *goal, *kinds, "--out", tmp_path).status == 0
    first = load_file(out / "models" / "finetuned" / "mask.safetensors")
    conv = {name: is_kept for name, is_kept in first.items() if "head" not in name}
    mask = load_file(tmp_path / "models" / "finetuned" / "mask.safetensors")
    weights = load_file(tmp_path / "models" / "finetuned" / "model.safetensors")
    for name, is_kept in first.items():
        assert not weights[name][~is_kept].any()
        assert not (mask[name] & ~is_kept).any()
    curve = pd.read_csv(tmp_path / "curve.csv")
    gone = sum(int((~is_kept).sum()) for is_kept in conv.values())
    total = sum(mask[name].numel() for name in (*conv, "head.weight", "head.bias"))
    assert curve["sparsity"].tolist() == pytest.approx([gone / total, 0.7], abs=1e-4)
    assert batch_sizes == [32]  # of the training, not of either pruning


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 3])
def test_a_killed_pruning_ends_as_an_unbroken_one(words, tmp_path, rows):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert evenhand(*changed(words, "--share", 12, "--out", whole)).status == 0
    process = start(*changed(words, "--share", 12, "--out", broken))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        curve = broken / "curve.csv"
        if curve.exists() and len(curve.read_text().splitlines()) > rows:
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was still at work
    assert evenhand("report", broken).status == 2
    assert evenhand(*changed(words, "--share", 12, "--out", broken)).status == 0
    first, second = (pd.read_csv(out / "curve.csv") for out in (whole, broken))
    pd.testing.assert_frame_equal(
        *(table.drop(columns="seconds") for table in (first, second)), check_exact=True
    )
    for name in ("models/pruned/model.safetensors", "models/pruned/predictions.parquet"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert not (broken / "steps").exists()


def test_a_pruning_that_is_killed_at_its_very_end_goes_on(words, tmp_path, monkeypatch):
    def killed(*arguments, **more):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("evenhand.runs.RunFolder.finish", killed)
        with pytest.raises(RuntimeError, match="killed"):
            evenhand(*words, "--out", tmp_path)
    assert pd.read_csv(tmp_path / "curve.csv")["step"].iloc[-1] > 0
    ended = evenhand(*words, "--out", tmp_path)
    assert ended.status == 0, ended.err
    assert not (tmp_path / "steps").exists()


def test_a_target_that_is_met_already_is_no_error(words, tmp_path):
    inputs = without(words, "--objective")
    ended = evenhand(*inputs, "--target", "auc_gap=0.9", "--out", tmp_path)
    assert ended.status == 0, ended.err
    assert "Nothing was pruned: the target auc_gap=0.9 was met by the untouched model" in ended.out
    before, after = (tmp_path / "models" / name for name in ("before", "pruned"))
    for name in ("model.safetensors", "predictions.parquet"):
        assert (before / name).read_bytes() == (after / name).read_bytes()


def test_budget_0_loses_nothing(words, tmp_path):
    assert evenhand(*changed(words, "--budget", 0), "--out", tmp_path).status == 0
    curve = pd.read_csv(tmp_path / "curve.csv")
    chosen = read_json(tmp_path / "pruning.json")["chosen"]
    assert curve.loc[chosen, "auc"] >= curve.loc[0, "auc"] - 1e-12


@pytest.mark.slow
def test_a_search_prunes_with_what_won_on_validation(words, tmp_path):
    words = changed(words, "--search", 3, "--batches", 1, "--share", 28, "--limit", 50)
    assert evenhand(*words, "--out", tmp_path).status == 0
    table = pd.read_csv(tmp_path / "search.csv")
    assert table["state"].tolist() == ["COMPLETE"] * 3
    assert table.loc[0, ["params_beta", "params_share"]].tolist() == [0.33, 28]
    chosen = read_json(tmp_path / "run.json")["search"]
    assert chosen["value"] == table["value"].min()
    assert read_json(tmp_path / "pruning.json")["estimator"] == chosen["estimator"]
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve["log_loss_gap"].min() == pytest.approx(chosen["value"], abs=1e-12)
