"""Series go the way of images: fine-tuned, kept, and applied to other patients."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.command import evenhand

from evenhand import load_model, read_predictions
from evenhand.experiments.settings import FinetuneSettings
from evenhand.experiments.task import prepare_task
from evenhand.files import read_json
from evenhand.training.inputs import model_inputs

DATA = "series_phantom:patients=120,steps=16,seed=1"
FLAGS = ("--attribute", "group", "--backbone", "conv1d", "--weights", "none", "--device", "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    out = tmp_path_factory.mktemp("runs") / "first"
    ended = evenhand("finetune", DATA, *FLAGS, "--epochs", 1, "--cache", cache, "--out", out)
    assert ended.status == 0, ended.err
    return out


def test_every_sample_is_scored_by_a_model_that_knows_its_scale(run):
    predictions = read_predictions(run / "models" / "full" / "predictions.parquet")
    assert len(predictions) == 120
    spec = load_model(run / "models" / "full").spec
    assert spec.inputs.channels == ("pulse", "pressure", "temperature", "lab")
    assert spec.inputs.mean[1] == pytest.approx(120, abs=10)


def test_the_scale_is_that_of_training_patients(cache):
    settings = FinetuneSettings(
        data=DATA, attribute=("group",), backbone="conv1d", weights="none", cache=cache
    )
    task = prepare_task(settings)
    splits = task.splits
    assert task.inputs == model_inputs(splits.train) != model_inputs(splits.val)
    assert task.inputs != model_inputs(splits.test)


def test_other_patients_are_read_in_the_models_scale(run, cache, tmp_path):
    other = "series_phantom:patients=60,steps=16,seed=2"
    ended = evenhand("predict", run, other, "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert len(pd.read_parquet(tmp_path / "out" / "models" / "full" / "predictions.parquet")) == 60


def test_an_image_size_is_refused(cache, tmp_path):
    words = ("finetune", DATA, *FLAGS, "--image-size", 64, "--cache", cache)
    ended = evenhand(*words, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "--image-size 64 pixels: the samples are series, which have no image size." in ended.err
    assert not (tmp_path / "out").exists()


def test_images_are_not_augmented_as_series(cache, tmp_path):
    words = ("finetune", DATA, *FLAGS, "--augment", "free", "--cache", cache)
    ended = evenhand(*words, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "--augment free is for images, and the samples are series." in ended.err
    assert not (tmp_path / "out").exists()


def test_the_run_says_nothing_of_silent_channels_where_there_are_none(run):
    assert read_json(run / "run.json")["notes"] == []
