"""A pre-training that was stopped goes on to the same weights, with its teacher and its queue."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file
from tests.command import evenhand

from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.settings import SplitSettings
from evenhand.files import DamagedError, read_json
from evenhand.jobs.pretrain import training
from evenhand.jobs.pretrain.curve import STATE, PretrainingState
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.jobs.pretrain.training import train_encoder
from evenhand.networks.model import build_model
from evenhand.training.inputs import model_inputs

SERIES = "series_phantom:patients=100,steps=16,seed=1"
IMAGES = "phantom:patients=60,size=32,seed=1"


class StoppedError(Exception):
    """The machine goes down."""


@pytest.fixture
def stopping(monkeypatch):
    """Saves after each epoch; stops behind the save of the epoch that is named."""

    def after(epoch):
        def save(state, path):
            keep(state, path)
            if len(state.curve.loss) == epoch:
                raise StoppedError

        monkeypatch.setattr(PretrainingState, "save", save)

    keep = PretrainingState.save
    monkeypatch.setattr(training, "SAVE_INTERVAL", 0.0)
    return after


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def train_on(cache, data, ssl, folder=None, backbone=None, **more):
    size = 32 if data == IMAGES else None
    train = prepare_splits(
        SplitSettings(data=data, cache=cache), size, np.random.default_rng(0)
    ).train
    backbone = backbone or ("test_vit" if data == IMAGES else "conv1d")
    model = build_model(backbone, "none", model_inputs(train), train.classes, seed=0)
    settings = ContrastSettings(ssl=ssl, epochs=4, batch_size=20, device="cpu", **more)
    model, curve = train_encoder(model, train, settings, 3, folder)
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}, curve


@pytest.mark.parametrize(
    ("ssl", "data", "patience"),
    [
        ("simclr", SERIES, 2),
        ("barlow", SERIES, 0),
        ("byol", SERIES, 0),
        ("moco", SERIES, 0),
        ("masked", SERIES, 3),
        ("mae", IMAGES, 0),
        ("simsiam", IMAGES, 0),
    ],
)
def test_a_resumed_training_ends_in_the_same_bits(cache, tmp_path, stopping, ssl, data, patience):
    whole, curve = train_on(cache, data, ssl, patience=patience)
    for epoch in (1, 3):
        stopping(epoch)
        with pytest.raises(StoppedError):
            train_on(cache, data, ssl, tmp_path, patience=patience)
    stopping(0)
    resumed, again = train_on(cache, data, ssl, tmp_path, patience=patience)
    assert resumed == whole
    assert (again.loss, again.held_out, again.spread) == (curve.loss, curve.held_out, curve.spread)


@pytest.mark.parametrize("backbone", ["gru", "patch_transformer"])
def test_every_series_encoder_resumes_to_the_same_bits(cache, tmp_path, stopping, backbone):
    whole, _ = train_on(cache, SERIES, "masked", backbone=backbone, patience=0)
    stopping(2)
    with pytest.raises(StoppedError):
        train_on(cache, SERIES, "masked", tmp_path, backbone, patience=0)
    stopping(0)
    assert train_on(cache, SERIES, "masked", tmp_path, backbone, patience=0)[0] == whole


def test_the_state_holds_the_teacher_and_the_queue(cache, tmp_path, stopping):
    stopping(2)
    with pytest.raises(StoppedError):
        train_on(cache, SERIES, "moco", tmp_path)
    names = set(load_file(tmp_path / STATE))
    assert {"learner.queue", "learner.place", "random.views", "random.torch"} <= names
    assert any(name.startswith("learner.teacher.") for name in names)


def test_the_command_goes_on_after_a_stop_and_leaves_no_state(cache, tmp_path, stopping):
    words = ("--ssl", "byol", "--epochs", 4, "--batch-size", 32, "--device", "cpu")
    command = ("pretrain", SERIES, *words, "--cache", cache, "--out")
    stopping(2)
    with pytest.raises(StoppedError):
        evenhand(*command, tmp_path / "stopped")
    assert (tmp_path / "stopped" / STATE).exists()
    assert read_json(tmp_path / "stopped" / "run.json")["status"] == "running"
    stopping(0)
    for name in ("stopped", "whole"):
        ended = evenhand(*command, tmp_path / name)
        assert ended.status == 0, ended.err
        assert not (tmp_path / name / STATE).exists()
    file = "models/encoder/model.safetensors"
    first, other = ((tmp_path / name / file).read_bytes() for name in ("stopped", "whole"))
    assert first == other
    curves = [pd.read_csv(tmp_path / name / "curve.csv") for name in ("stopped", "whole")]
    assert curves[0].equals(curves[1])
    assert list(curves[0].columns) == ["epoch", "loss", "spread", "effective_rank"]


def test_a_damaged_state_is_named(cache, tmp_path):
    (tmp_path / STATE).write_bytes(b"nothing")
    with pytest.raises(DamagedError, match=r"pretraining\.safetensors is damaged"):
        train_on(cache, SERIES, "byol", tmp_path)


def test_a_state_of_other_parts_is_refused(cache, tmp_path, stopping):
    stopping(1)
    with pytest.raises(StoppedError):
        train_on(cache, SERIES, "byol", tmp_path)
    with pytest.raises(DamagedError, match="not a state of this pre-training"):
        train_on(cache, SERIES, "moco", tmp_path)
