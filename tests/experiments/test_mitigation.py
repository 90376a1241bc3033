"""`finetune --method`: the method trains; what it cannot work with is refused before training."""

from __future__ import annotations

import json

import pytest
from sklearn.metrics import roc_auc_score

from evenhand import read_predictions
from evenhand.errors import EvenhandError
from evenhand.experiments.settings import FinetuneSettings
from evenhand.jobs.finetune.job import finetune

DATA = "phantom:patients=120,size=16,tilt=0.5,tilt_test=0"


def settings(**more) -> FinetuneSettings:
    inputs = {
        "data": DATA,
        "attribute": ("group",),
        "backbone": "test_resnet",
        "weights": "none",
        "image_size": 32,
        "epochs": 1,
        "batch_size": 16,
        "device": "cpu",
    }
    return FinetuneSettings(**inputs | more)


@pytest.mark.parametrize("method", ["group-dro:rate=0.1,by=attribute", "jtt:weight=2", "swad"])
def test_the_model_says_by_which_method_it_was_trained(method, tmp_path):
    run = finetune(settings(method=method, cache=tmp_path / "cache"), tmp_path / "run")
    name = f"full-{method.partition(':')[0]}"
    assert run.models == (name,)
    about = json.loads((run.folder(name) / "model.json").read_text())
    assert about["method"] == method
    if method.startswith("group-dro"):
        assert set(about["logged"][0]) == {"weight of majority", "weight of minority"}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"method": "dro"}, "no method 'dro'; there are: cdann, coral"),
        ({"method": "group-dro:eta=1"}, "has no setting 'eta'; it has: rate, adjustment, by"),
        ({"method": "group-dro:rate=fast"}, "rate='fast': input should be a valid number"),
        ({"method": "group-dro:by=patient"}, "by='patient': input should be 'attribute'"),
        ({"method": "group-dro:rate=1,rate=2"}, "rate is given twice"),
        ({"method": "group-dro", "attribute": ()}, "give --attribute"),
        ({"method": "group-dro", "method_attribute": "age"}, "no --method-attribute 'age'"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(more, text, tmp_path):
    with pytest.raises(EvenhandError, match=text):
        finetune(settings(cache=tmp_path / "cache", **more), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_averaged_weights_have_the_validation_values_of_their_own_scores(tmp_path):
    run = finetune(
        settings(method="swad:start=1,end=1", epochs=2, cache=tmp_path / "cache"), tmp_path / "run"
    )
    about = json.loads((run.folder("full-swad") / "model.json").read_text())
    val = read_predictions(run.predictions_file("full-swad")).of_split("val")
    auc = roc_auc_score(val.labels, val.scores)
    assert about["val"]["auc"] == pytest.approx(auc, abs=1e-6)


def test_group_dro_that_follows_one_group_is_noted(tmp_path):
    method = "group-dro:rate=50,by=attribute"
    run = finetune(settings(method=method, cache=tmp_path / "cache"), tmp_path / "run")
    assert any("its labels may be wrong" in note for note in run.record.notes)
