"""`evenhand adjust` on a run with a model: features, exports, and new patients."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tests.command import evenhand, training

from evenhand.cohort.prepare import DataOverrides, reopen
from evenhand.cohort.store.batches import BatchSource
from evenhand.evaluation.rows import choose_cut
from evenhand.experiments.records import data_settings
from evenhand.experiments.runs import open_run
from evenhand.files import read_json
from evenhand.jobs.adjust.adjustment import read_adjustment
from evenhand.networks.model import load_model
from evenhand.tables.predictions import read_predictions
from evenhand.tables.settings import ValueSettings
from evenhand.training.predict import to_unit_range

PHANTOMS = "phantom:patients=500,size=32,harder=0,shortcut=0,tilt=0.6,tilt_test=0,minority=0.4"
FEW = ("--replicates", 40)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A small network, trained on phantoms in which the label goes with the group."""
    out = tmp_path_factory.mktemp("trained") / "run"
    words = training(cache, "--epochs", 2, "--lr", 0.002)
    ended = evenhand("finetune", PHANTOMS, *words, "--out", out)
    assert ended.status == 0, ended.err
    return out


METHODS = {
    "dfr": "dfr",
    "thresholds": "thresholds:value=0.8",
    "thresholds-2": "thresholds:value=0.8,at_test=inferred",
    "thresholds-3": "thresholds:value=0.8,at_test=merged",
    "recalibrate": "recalibrate",
    "multicalibrate": "multicalibrate",
}


@pytest.fixture(scope="module")
def adjusted(trained, cache, tmp_path_factory):
    """The run, adjusted by every method in one call."""
    out = tmp_path_factory.mktemp("adjusted") / "run"
    words = [word for text in METHODS.values() for word in ("--method", text)]
    ended = evenhand(
        "adjust", trained, "--attribute", "group", "--attribute", "sex", *words, *FEW,
        "--cache", cache, "--out", out,
    )  # fmt: skip
    assert ended.status == 0, ended.err
    return out


def test_every_model_says_whether_it_needs_the_attribute(adjusted):
    needs = {name: read_adjustment(adjusted / "models" / name).attribute for name in METHODS}
    assert needs == {
        "dfr": "no", "thresholds": "yes", "thresholds-2": "inferred", "thresholds-3": "inferred",
        "recalibrate": "yes", "multicalibrate": "yes",
    }  # fmt: skip


def test_the_layer_of_dfr_is_a_model_that_gives_its_test_scores(adjusted, cache):
    """The exported single layer, run as a network, equals the scores in the predictions."""
    predictions = read_predictions(adjusted / "models/dfr/predictions.parquet").of_split("test")
    model = load_model(adjusted / "models/dfr")
    with torch.no_grad():
        logits = model(inputs_of(adjusted, cache))
    scores = logits.double().softmax(dim=1)[:, 1].numpy()
    np.testing.assert_allclose(scores, predictions.scores, atol=1e-6)


def test_test_and_training_patients_are_not_what_dfr_was_fitted_on(adjusted):
    stored = read_adjustment(adjusted / "models/dfr")
    table = read_predictions(adjusted / "models/dfr/predictions.parquet").table
    assert stored.split == "val"
    assert stored.rows == (table["split"] == "val").sum()


def test_the_backbone_stays_and_the_last_layer_changes(trained, adjusted):
    (name,) = open_run(trained).models
    before, after = load_model(trained / "models" / name), load_model(adjusted / "models/dfr")
    for key, value in before.state_dict().items():
        same = torch.equal(value, after.state_dict()[key])
        assert same == (not key.startswith("head")), key


def test_a_command_asks_which_of_several_models_it_should_take(adjusted, tmp_path):
    ended = evenhand("export", adjusted, "--format", "onnx", "--out", tmp_path / "m.onnx")
    assert ended.status == 2
    assert "chose none of them. Name one with --model." in ended.err


@pytest.mark.parametrize("name", METHODS)
def test_one_onnx_file_decides_as_the_run_does(adjusted, cache, tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "model.onnx"
    ended = evenhand("export", adjusted, "--model", name, "--out", file)
    assert ended.status == 0, ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.md", "model.onnx"]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    predictions = read_predictions(adjusted / f"models/{name}/predictions.parquet").of_split("test")
    inputs = {"inputs": inputs_of(adjusted, cache).numpy()}
    about = json.loads(session.get_modelmeta().custom_metadata_map["evenhand"])
    if name in ("thresholds", "recalibrate"):
        own = predictions.group("group").astype(str)
    elif name == "multicalibrate":
        own = "group=" + predictions.group("group").astype(str) + ", sex="
        own = own + predictions.group("sex").astype(str)
    else:
        own = None
    names = ["inputs"] if own is None else ["inputs", "group"]
    assert [item.name for item in session.get_inputs()] == names
    if own is not None:
        inputs["group"] = np.array([about["groups"].index(group) for group in own], np.int64)
    score, decision = session.run(["score", "decision"], inputs)
    np.testing.assert_allclose(score, predictions.scores, atol=1e-5)
    every = read_predictions(adjusted / f"models/{name}/predictions.parquet")
    cut = open_run(adjusted).record.cuts.get(name) or choose_cut(every)
    np.testing.assert_array_equal(decision, predictions.scores >= cut.thresholds(predictions))


def test_new_patients_are_scored_by_the_adjusted_model(adjusted, cache, tmp_path):
    """The test patients as new data: the same scores and decisions as in the run."""
    for name in ("recalibrate", "thresholds-2"):
        out = tmp_path / name
        ended = evenhand(
            "predict", adjusted, PHANTOMS, "--model", name, "--device", "cpu", "--cache", cache,
            "--out", out,
        )  # fmt: skip
        assert ended.status == 0, ended.err
        new = read_predictions(out / f"models/{name}/predictions.parquet").table
        old = read_predictions(adjusted / f"models/{name}/predictions.parquet").table
        both = old.merge(new, on="sample_id", suffixes=("", "_new"))
        assert len(both) == len(old)
        np.testing.assert_allclose(both["score_new"], both["score"], atol=1e-6)


def test_equalised_odds_stand_before_and_after_on_the_page(adjusted):
    page = (adjusted / "report.html").read_text("utf-8")
    assert "Equalised-odds difference" in page
    assert "inferred from the model" in page
    rows = pd.DataFrame(read_json(adjusted / "metrics.json")["rows"])
    paired = rows[(rows["metric"] == "equalized_odds_difference") & rows["against"].notna()]
    assert set(paired["model"]) == set(METHODS)


def test_weights_alone_do_not_hold_an_adjustment(adjusted, tmp_path):
    file = tmp_path / "model.safetensors"
    words = ("export", adjusted, "--format", "safetensors", "--out", file)
    ended = evenhand(*words, "--model", "recalibrate")
    assert ended.status == 2
    assert "give --format onnx" in ended.err
    assert evenhand(*words, "--model", "dfr").status == 0


def test_scores_that_were_adjusted_before_have_no_features(adjusted, tmp_path):
    ended = evenhand(
        "adjust", adjusted, "--model", "recalibrate", "--attribute", "group", "--method", "dfr",
        *FEW, "--out", tmp_path / "out",
    )  # fmt: skip
    assert ended.status == 2
    assert "dfr needs the features of a model" in ended.err


def test_a_network_whose_scores_are_adjusted_is_not_pruned(adjusted, tmp_path):
    ended = evenhand(
        "prune", adjusted, "--model", "recalibrate", "--attribute", "group",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert ended.status == 2
    assert "adjusted after the network" in ended.err


def inputs_of(run, cache):
    """Return the inputs of the test samples, in the order of the predictions."""
    record = open_run(run).record
    data_overrides = DataOverrides(None, (), (), cache, False, ValueSettings())
    test = reopen(run, data_settings(record), 32, data_overrides, None).test
    return to_unit_range(BatchSource(test, torch.device("cpu")).take(np.arange(len(test))).inputs)
