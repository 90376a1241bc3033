"""Every encoder of series through the command line: trained, kept, rerun, pruned, exported."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
from tests.command import evenhand
from tests.data.series_table import make_series, make_series_table

from evenhand.files import read_json
from evenhand.networks.registry import SERIES_ENCODERS

DATA = "series_phantom:patients=120,steps=16,seed=1"
COMMON = ("--attribute", "group", "--device", "cpu")
BASIC = (*COMMON, "--weights", "none", "--epochs", 1)
NEW = ("gru", "patch_transformer")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache):
    """Return a function that makes the run of an encoder once."""
    root, built = tmp_path_factory.mktemp("runs"), {}

    def run(name):
        if name not in built:
            out = root / name
            ended = evenhand(
                "finetune", DATA, *BASIC, "--backbone", name, "--cache", cache, "--out", out
            )
            assert ended.status == 0, ended.err
            built[name] = out
        return built[name]

    return run


@pytest.mark.parametrize("name", NEW)
def test_a_rerun_gives_the_same_bytes(name, runs, cache, tmp_path):
    again = ("finetune", DATA, *BASIC, "--backbone", name, "--cache", cache)
    assert evenhand(*again, "--out", tmp_path / "again").status == 0
    predictions = "models/full/predictions.parquet"
    first, second = ((out / predictions).read_bytes() for out in (runs(name), tmp_path / "again"))
    assert first == second


@pytest.mark.parametrize("name", NEW)
def test_a_frozen_prefix_is_computed_once_and_changes_nothing(name, cache, tmp_path):
    words = ("finetune", DATA, *BASIC, "--backbone", name, "--strategy", "last-1")
    scores = []
    for memory in (0, 100):
        out, own = tmp_path / f"{memory}", tmp_path / f"cache{memory}"
        ended = evenhand(*words, "--prefix-memory", memory, "--cache", own, "--out", out)
        assert ended.status == 0, ended.err
        scores.append(pd.read_parquet(out / "models" / "last-1" / "predictions.parquet")["score"])
        assert bool(list(own.glob("activations/*.npy"))) == bool(memory)
    pd.testing.assert_series_equal(*scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NEW)
def test_an_encoder_is_pretrained_and_then_tuned_by_the_freeze_grid(name, cache, tmp_path):
    objective = {"gru": "masked", "patch_transformer": "simclr"}[name]
    words = ("pretrain", DATA, "--ssl", objective, "--backbone", name, "--epochs", 1)
    words += ("--device", "cpu")
    ended = evenhand(*words, "--attribute", "group", "--cache", cache, "--out", tmp_path / "ssl")
    assert ended.status == 0, ended.err
    words = ("finetune", DATA, *COMMON, "--epochs", 2, "--backbone", name)
    words += ("--weights", tmp_path / "ssl")
    for strategy in ("frozen1m", "gradual"):
        out = tmp_path / strategy
        ended = evenhand(*words, "--strategy", strategy, "--cache", cache, "--out", out)
        assert ended.status == 0, ended.err


@pytest.mark.parametrize("name", NEW)
def test_layers_are_compared(name, runs, cache, tmp_path):
    words = ("similarity", runs(name), runs("conv1d"), "--attribute", "group", "--cache", cache)
    words += ("--minimum", 8, "--device", "cpu")
    ended = evenhand(*words, "--out", tmp_path / "out")
    assert ended.status == 0, ended.err


@pytest.mark.parametrize("name", NEW)
def test_weights_are_pruned(name, runs, cache, tmp_path):
    words = ("prune", runs(name), "--attribute", "group", "--cache", cache, "--device", "cpu")
    ended = evenhand(*words, "--limit", 20, "--out", tmp_path / "out")
    assert ended.status == 0, ended.err


def test_channels_of_a_gru_are_refused_by_name(runs, cache, tmp_path):
    pytest.importorskip("torch_pruning")
    words = ("prune", runs("gru"), "--attribute", "group", "--cache", cache, "--device", "cpu")
    ended = evenhand(*words, "--structure", "channel", "--out", tmp_path / "out")
    assert ended.status == 2
    assert "--structure channel: no channel or head of gru can be removed" in ended.err


@pytest.mark.parametrize("name", NEW)
def test_a_model_is_exported_to_onnx(name, runs, tmp_path):
    pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    ended = evenhand("export", runs(name), "--format", "onnx", "--out", file)
    assert ended.status == 0, ended.err
    assert file.stat().st_size > 10_000


@pytest.mark.parametrize("name", NEW)
def test_units_are_listed(name):
    ended = evenhand("units", name)
    assert ended.status == 0
    assert {"gru": "recurrence", "patch_transformer": "blocks.2.attn"}[name] in ended.out


def test_every_flag_and_list_names_every_encoder():
    for command in ("finetune", "pretrain", "assess"):
        text = "".join(evenhand(command, "--help").out.split())
        assert "conv1d,gru,patch_transformer" in text


@pytest.mark.parametrize("strategy", ["attention", "layernorm", "lora"])
def test_a_strategy_without_sense_ends_before_training(strategy, cache, tmp_path):
    words = ("finetune", DATA, *BASIC, "--backbone", "gru", "--strategy", strategy)
    ended = evenhand(*words, "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 2
    assert f"strategy '{strategy}': gru has no" in ended.err


def test_weights_of_another_encoder_end_before_training(runs, cache, tmp_path):
    words = ("finetune", DATA, *COMMON, "--backbone", "gru", "--cache", cache)
    ended = evenhand(*words, "--weights", runs("conv1d"), "--out", tmp_path / "out")
    assert ended.status == 2
    assert "does not fit gru" in ended.err
    assert not (tmp_path / "out").exists()


def test_weights_for_other_variables_end_before_training(runs, cache, tmp_path):
    table = make_series_table(tmp_path, patients=10)
    words = ("--series-column", "signal", "--label", "finding", "--patient", "person")
    words += ("--attribute", "skin", "--backbone", "gru", "--weights", runs("gru"))
    ended = evenhand("finetune", table, *words, "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "that model takes 4 channels (pulse, pressure, temperature, lab)" in ended.err
    assert not (tmp_path / "out").exists()


def test_a_transformer_for_another_length_ends_before_training(runs, cache, tmp_path):
    longer = "series_phantom:patients=120,steps=40,seed=1"
    words = ("finetune", longer, "--attribute", "group", "--backbone", "patch_transformer")
    words += ("--weights", runs("patch_transformer"), "--cache", cache, "--out", tmp_path / "out")
    ended = evenhand(*words)
    assert ended.status == 2
    assert "patch_embed.position is (1, 4, 64), not (1, 10, 64)" in ended.err


def test_a_series_without_any_observation_is_named(cache, tmp_path):
    table = make_series_table(tmp_path, patients=10)
    empty = make_series(0) * float("nan")
    empty.to_csv(tmp_path / "series" / "004.csv", index=False)
    words = ("--series-column", "signal", "--label", "finding", "--patient", "person")
    words += ("--attribute", "skin", "--backbone", "gru", "--weights", "none")
    ended = evenhand("finetune", table, *words, "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "004.csv" in ended.err
    assert "nothing was observed in it: every cell is blank" in ended.err


def test_times_out_of_order_are_named(cache, tmp_path):
    table = tmp_path / "stays.csv"
    pd.DataFrame({"stay": ["a", "b"], "died": [0, 1]}).to_csv(table, index=False)
    rows = [("a", 0, "pulse", 1), ("a", 3, "pulse", 1), ("a", 2, "pulse", 1), ("b", 0, "pulse", 2)]
    long = pd.DataFrame(rows, columns=["stay", "time", "variable", "value"])
    long.to_csv(tmp_path / "long.csv", index=False)
    words = ("--series-column", "stay", "--series-table", "long.csv", "--label", "died")
    words += ("--patient", "stay", "--backbone", "gru", "--weights", "none")
    ended = evenhand("finetune", table, *words, "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "long.csv, row 4: the time is earlier than in the row above" in ended.err


OWN = """
import torch
from torch import nn

from evenhand import register_backbone


class Mean(nn.Module):
    def __init__(self, channels, steps):
        super().__init__()
        self.first = nn.Linear(channels, 8)
        self.second = nn.Linear(8, 8)
        self.steps = steps

    def forward(self, series):
        assert series.shape[2] == self.steps
        return self.second(self.first(series.transpose(1, 2)).relu()).mean(1)


register_backbone("mean-of-steps", Mean, layers=("first", "second"))
"""


def test_an_own_encoder_goes_the_same_way(cache, tmp_path, monkeypatch):
    (tmp_path / "own_series.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("--import", "own_series", "--backbone", "mean-of-steps", "--cache", cache)
    common = ("--attribute", "group", "--device", "cpu", "--epochs", 1)
    ended = evenhand("pretrain", DATA, *own, *common, "--out", tmp_path / "ssl")
    assert ended.status == 0, ended.err
    ended = evenhand(
        "finetune", DATA, *own, *common, "--weights", tmp_path / "ssl", "--strategy", "last-1",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    units = read_json(tmp_path / "run" / "models" / "last-1" / "model.json")["units"]
    assert {unit["name"]: unit["tuned"] for unit in units} == {
        "stage1.conv": False,
        "stage2.conv": True,
    }
    sys.modules.pop("own_series", None)


def test_the_registry_lists_titles_without_torch():
    assert all(title.startswith("Return ") for title in SERIES_ENCODERS.titles().values())
