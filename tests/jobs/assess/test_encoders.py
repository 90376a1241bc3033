"""Encoders made elsewhere: named arms on equal terms, judged without pre-training."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tests.command import evenhand

from evenhand import load_model
from evenhand.errors import EvenhandError
from evenhand.files import read_json
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.starts import encoder_starts

DATA = "series_phantom:patients=160,steps=12,seed=1"
ATTRIBUTE = ("--attribute", "group", "--device", "cpu")
FITS = ("--epochs", 1, "--seeds", 2, "--cell", "frozen0", "--cell", "frozen3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def encoder(folder):
    """A run of `evenhand pretrain` on the same patients."""
    words = ("--attribute", "group", "--device", "cpu", "--epochs", 1, "--patience", 0)
    out = folder / "views"
    ended = evenhand("pretrain", DATA, *words, "--cache", folder / "cache", "--out", out)
    assert ended.status == 0, ended.err
    return out


@pytest.fixture(scope="module")
def other(encoder, folder):
    """A file of other weights, without anything beside it."""
    state = load_file(encoder / "models" / "encoder" / "model.safetensors")
    path = folder / "else.safetensors"
    save_file({name: 0.5 * tensor for name, tensor in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def command(folder):
    words = ("assess", DATA, *FITS, *ATTRIBUTE, "--cache", folder / "cache")
    return lambda out, *more: evenhand(*words, *more, "--out", out)


@pytest.fixture(scope="module")
def run(command, encoder, other, folder):
    out = folder / "assessed"
    ended = command(out, "--encoder", encoder, "--encoder", f"halved={other}")
    assert ended.status == 0, ended.err
    assert ended.out.startswith("10 fits of at most 1")
    return out


def test_each_encoder_is_an_arm_with_its_name_and_nothing_is_pre_trained(run):
    assert not (run / "encoders").exists()
    recipes = ("views-frozen0", "views-frozen3", "halved-frozen0", "halved-frozen3", "supervised")
    names = {path.name for path in (run / "models").iterdir()}
    assert names == {f"{recipe}-seed{seed}" for recipe in recipes for seed in (0, 1)}


def test_a_frozen_arm_holds_the_weights_of_its_encoder(run, encoder, other):
    for name, path in (("views", encoder / "models/encoder/model.safetensors"), ("halved", other)):
        file = load_file(path)
        for seed in (0, 1):
            weights = load_model(
                run / "models" / f"{name}-frozen3-seed{seed}"
            ).backbone.state_dict()
            assert all(torch.equal(weights[k], file[f"backbone.{k}"]) for k in weights)


def test_all_arms_scale_their_inputs_alike(run):
    models = [load_model(path).spec.inputs for path in (run / "models").iterdir()]
    assert all(model == models[0] for model in models)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "one scale of their inputs. Supervised" in page


def test_what_differs_between_the_arms_is_said(run, other):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Did pre-training make this fairer?" in page
    assert f"halved: {other}, an external encoder." in page


def test_each_arm_is_held_against_supervised_and_the_best_against_the_other(run):
    rows = pd.DataFrame(read_json(run / "metrics.json")["rows"])
    judged = rows[rows["p_adjusted"].notna()][["model", "against"]].drop_duplicates()
    pairs = set(judged.itertuples(index=False, name=None))
    starts = [model.partition("-")[0] for model, against in pairs if against == "supervised"]
    assert sorted(starts) == ["halved", "views"]
    (between,) = ((model, against) for model, against in pairs if against != "supervised")
    assert {name.partition("-")[0] for name in between} == {"halved", "views"}
    verdicts = read_json(run / "verdicts.json")["verdicts"]
    assert any(verdict["about"].endswith(" against ".join(between)) for verdict in verdicts)


def test_every_start_s_fold_names_what_is_shown(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("<summary>views-") + page.count("<summary>halved-") == 2


def test_an_encoder_in_a_scale_of_its_own_keeps_it_and_the_page_says_so(
    command, encoder, folder, tmp_path
):
    far = shutil.copytree(encoder, tmp_path / "far")
    about = far / "models" / "encoder" / "model.json"
    text = about.read_text(encoding="utf-8")
    std = read_json(about)["spec"]["inputs"]["std"][0]
    about.write_text(text.replace(str(std), str(2 * std)), encoding="utf-8")
    cells = ("--encoder", encoder, "--encoder", far, "--seeds", 1)
    words = ("assess", DATA, "--epochs", 1, "--cell", "frozen0", *ATTRIBUTE)
    ended = evenhand(*words, *cells, "--cache", folder / "cache", "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "one scale of their inputs except for far-frozen0, which" in page


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        (("nowhere",), "encoder nowhere: "),
        (("a=x.safetensors", "a=y.safetensors"), "2 arms are called 'a'"),
        (("a b=x.safetensors",), "NAME=PATH with a name of"),
    ],
)
def test_bad_encoders_are_refused_before_any_work(command, tmp_path, encoders, message):
    words = (word for encoder in encoders for word in ("--encoder", encoder))
    ended = command(tmp_path / "out", *words)
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_an_encoder_of_other_channels_or_another_shape_is_refused(command, encoder, tmp_path):
    channels = shutil.copytree(encoder, tmp_path / "channels")
    about = channels / "models" / "encoder" / "model.json"
    text = about.read_text(encoding="utf-8")
    about.write_text(text.replace('"pulse"', '"breaths"'), encoding="utf-8")
    ended = command(tmp_path / "out", "--encoder", channels)
    assert ended.status == 2
    assert "encoder channels: --encoder" in ended.err
    assert "Give weights that were learnt on the same channels" in ended.err
    state = load_file(encoder / "models" / "encoder" / "model.safetensors")
    save_file({k: v[..., :1].contiguous() for k, v in state.items()}, tmp_path / "x.safetensors")
    ended = command(tmp_path / "out", "--encoder", tmp_path / "x.safetensors")
    assert ended.status == 2
    assert "encoder x: " in ended.err
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_has_met_the_test_patients_is_refused(folder, encoder, tmp_path):
    words = ("assess", DATA, *FITS, *ATTRIBUTE, "--seed", 5, "--encoder", encoder)
    ended = evenhand(*words, "--cache", folder / "cache", "--out", tmp_path / "out")
    assert ended.status == 2
    assert f"--encoder {encoder} was trained on" in ended.err


def test_an_encoder_goes_beside_an_objective_and_scratch(command, encoder, tmp_path):
    more = ("--ssl", "vicreg", "--pretrain-epochs", 1, "--weights", encoder)
    words = ("--encoder", f"again={encoder}", "--cell", "scratch", *more)
    ended = command(tmp_path / "out", *words)
    assert ended.status == 0, ended.err
    about = {row["about"] for row in read_json(tmp_path / "out" / "verdicts.json")["verdicts"]}
    pairs = {item.partition(", ")[2] for item in about if item.startswith("AUC, ")}
    for start in ("vicreg", "again"):
        for other in ("supervised", "scratch"):
            assert any(p.startswith(f"{start}-") and p.endswith(f"t {other}") for p in pairs)


def test_a_single_encoder_is_named_by_its_file():
    settings = AssessSettings(data="phantom:", encoder=("weights/Res Net.pth",))
    assert [start.name for start in encoder_starts(settings)] == ["Res-Net"]
    assert settings.objectives == ()
    with pytest.raises(EvenhandError, match="are called 'simclr'"):
        encoder_starts(AssessSettings(data="p:", ssl=("simclr",), encoder=("simclr=x.pth",)))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_an_image_network_s_weights_are_judged(tmp_path, suffix):
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    path = tmp_path / f"imagenet.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    words = ("assess", "phantom:patients=120,size=32,seed=1", "--backbone", "test_resnet")
    fits = ("--image-size", 32, "--cell", "frozen3", "--seeds", 1, "--epochs", 1)
    folders = ("--cache", tmp_path / "cache", "--out", tmp_path / "out")
    ended = evenhand(*words, *fits, *ATTRIBUTE, "--encoder", path, *folders)
    assert ended.status == 0, ended.err
    model = load_model(tmp_path / "out" / "models" / "imagenet-frozen3-seed0")
    weights = model.backbone.state_dict()
    assert all(torch.equal(weights[name], state[name]) for name in weights)
