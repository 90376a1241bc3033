"""Exported files say what the model says, and carry its card."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import pytest
import torch
from tests.command import PHANTOMS, evenhand, training

from evenhand import export, load_model
from evenhand.files import host_name
from evenhand.networks import export as exporting
from evenhand.networks.export import from_safetensors


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    words = training(tmp_path_factory.mktemp("cache"), "--epochs", 1)
    assert evenhand("finetune", PHANTOMS, *words, "--out", out).status == 0
    return out


def logits(run, inputs):
    with torch.no_grad():
        return load_model(run / "models" / "full")(inputs)


def test_onnx_says_the_same_for_any_batch(run, tmp_path):
    file = tmp_path / "model.onnx"
    ended = evenhand("export", run, "--format", "onnx", "--out", file)
    assert ended.status == 0, ended.err
    session = onnxruntime.InferenceSession(str(file))
    for batch in (1, 3, 8):
        inputs = torch.rand(batch, 3, 32, 32)
        (result,) = session.run(None, {"inputs": inputs.numpy()})
        np.testing.assert_allclose(result, logits(run, inputs), atol=1e-4)
    card = (tmp_path / "model.md").read_text()
    assert card.startswith("---\nlibrary_name: evenhand")
    assert "group: minority" in card


def test_safetensors_loads_with_nothing_beside_it(run, tmp_path):
    file = tmp_path / "model.safetensors"
    assert evenhand("export", run, "--format", "safetensors", "--out", file).status == 0
    inputs = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(from_safetensors(file)(inputs), logits(run, inputs))


def test_the_function_returns_the_run_of_the_model(run, tmp_path):
    exported = export(run, tmp_path / "model.safetensors", format="safetensors")
    assert exported.root == run
    assert exported.models == ("full",)


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("m.safetensors", "onnx", "Name it m.onnx, or give --format safetensors."),
        ("m.onnx", "safetensors", "Name it m.safetensors, or give --format onnx."),
        ("m.md", "onnx", "is the name of the model's card. Name it m.onnx."),
    ],
)
def test_an_ending_of_another_format_is_refused(run, tmp_path, name, format, message):
    ended = evenhand("export", run, "--format", format, "--out", tmp_path / name)
    assert ended.status == 2
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--format", "onx"), "Did you mean 'onnx'?"),
        (("--model", "head"), "no model 'head'; there are: full"),
    ],
)
def test_bad_input(run, tmp_path, flags, message):
    ended = evenhand("export", run, *flags, "--out", tmp_path / "model.onnx")
    assert ended.status == 2
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(run, tmp_path):
    (tmp_path / "model.safetensors").write_text("precious")
    words = ("export", run, "--format", "safetensors", "--out", tmp_path / "model.safetensors")
    assert evenhand(*words).status == 2
    assert (tmp_path / "model.safetensors").read_text() == "precious"
    assert evenhand(*words, "--overwrite").status == 0


def test_a_file_that_says_something_else_is_not_kept(run, tmp_path, monkeypatch):
    def wrong(model, path):
        answer = exporting.to_safetensors(model, path)
        return lambda inputs: answer(inputs) + 0.01

    monkeypatch.setattr("evenhand.jobs.export.FORMATS", {"onnx": wrong})
    ended = evenhand("export", run, "--out", tmp_path / "model.onnx")
    assert ended.status == 2
    assert "logits differ by up to" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_torch_cannot_write_is_refused_by_name(run, tmp_path, monkeypatch):
    def fail(*arguments, **settings):
        raise torch.onnx.OnnxExporterError("step 2 of 3") from ValueError("cannot view it\nmore")

    monkeypatch.setattr(torch.onnx, "export", fail)
    ended = evenhand("export", run, "--out", tmp_path / "model.onnx")
    assert ended.status == 2
    assert "test_vit as ONNX (cannot view it). Export it as --format safetensors." in ended.err
    assert not [*tmp_path.iterdir()]


def test_without_the_libraries(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ended = evenhand("export", run, "--out", tmp_path / "model.onnx")
    assert ended.status == 2
    assert "pip install 'evenhand[export]'" in ended.err


def test_a_card_that_a_killed_export_left_does_not_block(run, tmp_path):
    file, card = tmp_path / "model.safetensors", tmp_path / "model.md"
    words = ("export", run, "--format", "safetensors", "--out", file)
    assert evenhand(*words).status == 0
    file.unlink()
    part = tmp_path / f".model.safetensors.{host_name()}-{2**22 + 1}.part"
    part.touch()
    assert evenhand(*words).status == 0
    assert {path.name for path in tmp_path.iterdir()} == {file.name, card.name}
    file.unlink()
    card.write_text("mine")
    ended = evenhand(*words)
    assert (ended.status, card.read_text()) == (2, "mine")
