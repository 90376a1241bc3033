"""Scores and the predictions table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from evenhand.cohort.splits import Splits
from evenhand.cohort.store.batches import BatchSource
from evenhand.networks.model import build_model
from evenhand.tables.predictions import read_predictions, write_predictions
from evenhand.training import predict as module
from evenhand.training.device import make_accelerator
from evenhand.training.predict import class_probabilities, predict_cohorts, to_unit_range
from evenhand.training.settings import LoopSettings


@pytest.fixture
def accelerator():
    return make_accelerator(LoopSettings(device="cpu"))


def test_where_there_is_no_cuda_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr("evenhand.training.device.is_available", lambda: False)
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda: True)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert make_accelerator(LoopSettings(device="auto")).device.type == "cpu"


def test_the_batch_has_no_influence(model, splits, accelerator, monkeypatch):
    whole = predict_cohorts(model, splits.items(), accelerator).table
    monkeypatch.setattr(module, "BATCH", 7)
    parts = predict_cohorts(model, splits.items(), accelerator).table
    assert np.allclose(whole["score"], parts["score"], rtol=0, atol=1e-6)
    assert whole["score"].nunique() > len(whole) / 2


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_neither_has_the_order(backbone, splits, accelerator):
    model = build_model(backbone, "none", 32, ("benign", "malignant"), 0).train()
    order = np.random.default_rng(0).permutation(len(splits.val))
    first, other = (
        class_probabilities(model, BatchSource(cohort, torch.device("cpu")), accelerator)
        for cohort in (splits.val, splits.val.select(order))
    )
    assert np.allclose(first[order], other, rtol=0, atol=1e-6)
    assert not np.allclose(first, other, rtol=0, atol=1e-6)


def test_white_is_one_and_series_stay():
    assert to_unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )
    assert to_unit_range(torch.tensor([-3.0, 300.0])).tolist() == [-3, 300]


def test_scores_are_probabilities_of_the_models_logits(model, splits, accelerator):
    result = class_probabilities(model, BatchSource(splits.val, torch.device("cpu")), accelerator)
    image = splits.val.read(splits.val.table["sample_id"][3])
    logits = model(torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255)
    assert np.allclose(result[3], logits.softmax(dim=1).detach().numpy(), atol=1e-6)
    assert np.allclose(result.sum(axis=1), 1)


def test_the_table_keeps_the_contract(model, splits, accelerator, tmp_path):
    result = predict_cohorts(model, splits.items(), accelerator)
    assert [*result.table] == [
        *("sample_id", "patient_id", "split", "label", "score", "attr_group", "attr_sex"),
        "attr_sticker",
    ]
    assert result.classes == ("benign", "malignant")
    assert result.levels == splits.train.levels
    for name, cohort in splits.items():
        rows = result.table[result.table["split"] == name]
        assert rows["sample_id"].tolist() == cohort.table["sample_id"].tolist()
        assert rows["label"].tolist() == cohort.labels.tolist()
    file = tmp_path / "predictions.parquet"
    write_predictions(file, result)
    assert np.array_equal(read_predictions(file).table["score"], result.table["score"])


def test_three_classes_have_three_columns(splits: Splits, accelerator):
    model = build_model("test_vit", "none", 32, ("a", "b", "c"), 0)
    table = predict_cohorts(model, [("test", splits.test)], accelerator).table
    columns = ["score_0", "score_1", "score_2"]
    assert [*table][4:7] == columns
    assert np.allclose(table[columns].sum(axis=1), 1, atol=1e-6)


def test_one_process_may_use_several_settings():
    for settings in ({"precision": "bf16"}, {}, {"precision": "bf16"}):
        accelerator = make_accelerator(LoopSettings(device="cpu", **settings))
        assert accelerator.mixed_precision == ("bf16" if settings else "no")
        assert accelerator.device.type == "cpu"
