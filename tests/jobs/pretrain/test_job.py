"""Pre-training: no labels, no patients but those of training, and an encoder to start from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tests.command import evenhand

from evenhand import load_model
from evenhand.cohort.phantoms.series import SeriesPhantomSettings, make_series_phantoms
from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.settings import SplitSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError
from evenhand.files import read_json
from evenhand.jobs.keywords import make_settings
from evenhand.jobs.pretrain import training
from evenhand.jobs.pretrain.settings import ContrastSettings, PretrainSettings
from evenhand.jobs.pretrain.training import draw_held_out, train_encoder
from evenhand.networks.model import build_model
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.training.inputs import model_inputs

DATA = "series_phantom:patients=120,steps=16,seed=1"
FEW = ContrastSettings(epochs=2, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    out = tmp_path_factory.mktemp("runs") / "encoder"
    words = ("--attribute", "group", "--epochs", 3, "--batch-size", 32, "--device", "cpu")
    ended = evenhand("pretrain", DATA, *words, "--cache", cache, "--out", out)
    assert ended.status == 0, ended.err
    assert f"--weights {out}" in ended.out
    return out


def encoded(cohort, seed=0, settings=FEW):
    model = build_model("conv1d", "none", model_inputs(cohort), cohort.classes, seed=0)
    model, curve = train_encoder(model, cohort, settings, seed)
    return model.backbone.state_dict(), curve


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def cohort(cache):
    phantoms = make_series_phantoms(SeriesPhantomSettings(patients=60, steps=16))
    return store_samples(phantoms, None, cache)


def test_labels_have_no_say(cohort):
    other = replace(cohort, table=cohort.table.assign(label=1 - cohort.table["label"]))
    assert equal(encoded(cohort)[0], encoded(other)[0])


def test_the_seed_decides(cohort):
    assert equal(encoded(cohort, 1)[0], encoded(cohort, 1)[0])
    assert not equal(encoded(cohort, 1)[0], encoded(cohort, 2)[0])


@pytest.mark.parametrize("ssl", ["simclr", "vicreg", "barlow", "byol", "simsiam"])
def test_the_loss_falls(cohort, ssl):
    settings = FEW.model_copy(update={"epochs": 12, "lr": 3e-3, "ssl": ssl, "patience": 0})
    _, curve = encoded(cohort, settings=settings)
    assert np.mean(curve.loss[-3:]) < np.mean(curve.loss[:3])


def test_training_of_ten_steps_ends(cohort):
    settings = FEW.model_copy(update={"epochs": 5, "batch_size": 30, "patience": 0})
    assert len(encoded(cohort, settings=settings)[1].loss) == 5  # of two batches each


def test_held_out_patients_tell_when_to_stop_and_which_epoch_to_keep(cohort, monkeypatch):
    after: list[dict[str, torch.Tensor]] = []

    def watched(learning, *others):
        after.append({k: v.clone() for k, v in learning.model.backbone.state_dict().items()})
        return judge(learning, *others)

    judge = training._Learning._held_out_loss
    monkeypatch.setattr(training._Learning, "_held_out_loss", watched)
    weights, curve = encoded(
        cohort, settings=FEW.model_copy(update={"epochs": 30, "lr": 3e-2, "patience": 2})
    )
    assert len(after) == len(curve.loss) == len(curve.held_out) == curve.best + 2 < 30
    assert min(curve.held_out) == curve.held_out[curve.best - 1]
    assert equal(weights, after[curve.best - 1])
    assert not equal(weights, after[-1])


def test_held_out_patients_are_judged_and_no_others_are(cohort, monkeypatch):
    served = []
    source = training.BatchSource
    monkeypatch.setattr(
        training, "BatchSource", lambda part, device: served.append(part) or source(part, device)
    )
    encoded(cohort)
    fitted, held = (set(part.table["patient_id"]) for part in served)
    assert len(held) == 8
    assert fitted == set(cohort.table["patient_id"]) - held


def test_nothing_is_held_out_without_patience(cohort):
    _, curve = encoded(cohort, settings=FEW.model_copy(update={"patience": 0}))
    assert (len(curve.loss), curve.held_out, curve.best) == (2, [], 2)


def test_patients_are_held_out_whole(cohort):
    rows = np.repeat(np.arange(len(cohort)), 2)  # two samples of each patient
    twice = cohort.select(rows)
    held = draw_held_out(twice, np.random.default_rng(0))
    patients = twice.table["patient_id"]
    assert held.sum() == 2 * 8
    assert not set(patients[held]) & set(patients[~held])


def test_images_can_be_learnt_from(cache):
    settings = SplitSettings(data="phantom:patients=60,size=16", cache=cache)
    train = prepare_splits(settings, 16, np.random.default_rng(0)).train
    model = build_model("test_resnet", "none", model_inputs(train), train.classes, seed=0)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model, curve = train_encoder(model, train, FEW, 0)
    assert len(curve.loss) == 2
    assert not equal(before, model.backbone.state_dict())


def test_patients_of_validation_and_test_do_not_reach_it(run, cache, monkeypatch, tmp_path):
    table = pd.read_csv(run / "splits.csv")
    read: set[str] = set()

    def watched(model, train, *others):
        read.update(train.table["patient_id"])
        return train_encoder(model, train, *others)

    monkeypatch.setattr(training, "train_encoder", watched)
    words = ("--attribute", "group", "--epochs", 1, "--device", "cpu", "--cache", cache)
    assert evenhand("pretrain", DATA, *words, "--out", tmp_path / "out").status == 0
    assert read == set(table["patient_id"][table["split"] == "train"])


def test_fine_tuning_starts_from_the_encoder_and_its_scale(run, cache, tmp_path):
    words = ("finetune", DATA, "--backbone", "conv1d", "--weights", run, "--strategy", "frozen2")
    flags = ("--attribute", "group", "--epochs", 1, "--device", "cpu", "--cache", cache)
    ended = evenhand(*words, *flags, "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    encoder, tuned = load_model(run / "models/encoder"), load_model(tmp_path / "out/models/frozen2")
    assert tuned.spec.inputs == encoder.spec.inputs
    before, after = encoder.backbone.state_dict(), tuned.backbone.state_dict()
    still = {name: torch.equal(before[name], after[name]) for name in before}
    assert [name for name, same in still.items() if same] == [
        f"conv{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")
    ]


def test_weights_that_have_seen_the_test_patients_are_refused(run, cache, tmp_path):
    words = ("finetune", DATA, "--backbone", "conv1d", "--weights", run, "--seed", 5)
    ended = evenhand(*words, "--attribute", "group", "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "patients of the validation and test split" in ended.err
    assert not (tmp_path / "out").exists()


def test_they_are_refused_after_a_training_on_other_data_too(run, cache, tmp_path):
    flags = ("--attribute", "group", "--epochs", 1, "--device", "cpu", "--cache", cache)
    between = ("pretrain", "series_phantom:patients=60,steps=16,seed=2", "--weights", run)
    ended = evenhand(*between, *flags, "--out", tmp_path / "between")
    assert ended.status == 0, ended.err
    words = ("finetune", DATA, "--backbone", "conv1d", "--weights", tmp_path / "between")
    ended = evenhand(*words, "--seed", 5, *flags, "--out", tmp_path / "out")
    assert ended.status == 2
    assert f"--exclude-patients {tmp_path / 'between' / 'seen.csv'}" in ended.err
    assert evenhand(*words, *flags, "--out", tmp_path / "out").status == 0  # the same split


def test_pre_training_refuses_them_and_leaves_the_run_that_it_builds_on(run, cache, tmp_path):
    words = ("pretrain", DATA, "--weights", run, "--attribute", "group", "--cache", cache)
    ended = evenhand(*words, "--seed", 5, "--out", tmp_path / "out")
    assert "patients of the validation and test split" in ended.err
    ended = evenhand(*words, "--out", run, "--overwrite")
    assert ended.status == 2
    assert "is read by this run" in ended.err
    assert (run / "models" / "encoder" / "model.safetensors").is_file()


def test_the_objective_is_given_as_ssl_and_by_its_earlier_name(run, cache, tmp_path):
    flags = ("--attribute", "group", "--epochs", 1, "--device", "cpu", "--cache", cache)
    ended = evenhand("pretrain", DATA, "--method", "barlow", *flags, "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert read_json(tmp_path / "out" / "run.json")["settings"]["ssl"] == "barlow"
    assert read_json(run / "run.json")["settings"]["ssl"] == "simclr"
    ended = evenhand("pretrain", DATA, "--method", "barlow", "--ssl", "vicreg", "--out", tmp_path)
    assert ended.status == 2
    assert "--method is the earlier name of --ssl; give one of them" in ended.err
    help_text = evenhand("pretrain", "--help").out
    assert "--method" not in help_text
    assert all(name in help_text for name in SSL_OBJECTIVES.titles())


def test_python_takes_the_objective_by_either_name(cache):
    inputs = {"data": DATA, "cache": cache}
    assert make_settings(PretrainSettings, {**inputs, "method": "vicreg"}).ssl == "vicreg"
    assert make_settings(PretrainSettings, {**inputs, "ssl": "barlow"}).ssl == "barlow"
    with pytest.raises(EvenhandError, match="method is the earlier name of ssl"):
        make_settings(PretrainSettings, {**inputs, "ssl": "barlow", "method": "vicreg"})


def test_an_objective_for_other_samples_is_refused_before_training(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(
        SSL_OBJECTIVES._values, "barlow", replace(SSL_OBJECTIVES["barlow"], modality="images")
    )
    words = ("pretrain", DATA, "--ssl", "barlow", "--cache", cache, "--out", tmp_path / "out")
    ended = evenhand(*words)
    assert ended.status == 2
    assert "--ssl barlow is for images, and the samples are series. Give one of" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--teacher-momentum", 0.9), "--ssl simclr has no teacher"),
        (("--ssl", "byol", "--teacher-momentum", 1), "--teacher-momentum: Input should be less"),
    ],
)
def test_a_teacher_without_a_schedule_is_refused(cache, tmp_path, words, message):
    ended = evenhand("pretrain", DATA, *words, "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_a_momentum_given_by_the_user_is_the_teachers(cohort):
    def after(momentum):
        settings = FEW.model_copy(update={"ssl": "byol", "teacher_momentum": momentum})
        return encoded(cohort, settings=settings)[0]

    assert equal(after(None), after(0.99))
    assert not equal(after(None), after(0.5))


def test_without_a_loss_that_tells_when_to_stop_all_epochs_are_trained(cache, tmp_path):
    flags = ("--attribute", "group", "--epochs", 2, "--device", "cpu", "--cache", cache)
    out = tmp_path / "out"
    ended = evenhand("pretrain", DATA, "--ssl", "moco", *flags, "--out", out)
    assert ended.status == 0, ended.err
    assert list(pd.read_csv(out / "curve.csv")["epoch"]) == [1, 2]
    assert "held_out" not in pd.read_csv(out / "curve.csv")
    notes = " ".join(read_json(out / "run.json")["notes"])
    assert "moco trains for all 2 epochs and holds no patients out" in notes
    weights = load_file(out / "models" / "encoder" / "model.safetensors")
    names = {name.partition(".")[0] for name in weights}
    assert names == {"backbone", "head"}  # neither teacher nor queue


def test_other_channels_are_refused(run, cache, tmp_path):
    file = run / "models" / "encoder" / "model.safetensors"
    words = ("finetune", "phantom:patients=60,size=32", "--backbone", "test_vit")
    ended = evenhand(*words, "--weights", file, "--cache", cache, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "does not fit test_vit" in ended.err
