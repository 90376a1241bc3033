"""Networks of one's own, registered by ``--import`` or saved by transformers, in every job."""

from __future__ import annotations

import sys

import pytest
import torch
from tests.command import evenhand

from evenhand.errors import EvenhandError
from evenhand.files import read_json
from evenhand.networks.export import check_answers, to_onnx
from evenhand.networks.model import build_model, load_model
from evenhand.networks.registry import BACKBONES, register_backbone
from evenhand.plugins import import_modules

MODULE = '''
from torch import nn

from evenhand import register_backbone


class PlainCNN(nn.Module):
    """Three convolutions, a pooling and a classifier."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(16, 1000)

    def forward(self, images):
        return self.fc(self.pool(self.third(self.second(self.first(images)))))


class Rhythm(nn.Module):
    """Four convolutions over time, so that the freeze grid has three thirds."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, 8, 5, padding=2), nn.ReLU(),
            nn.Conv1d(8, 8, 5, padding=2), nn.ReLU(),
            nn.Conv1d(8, 8, 5, padding=2), nn.ReLU(),
            nn.Conv1d(8, 12, 5, padding=2),
        )

    def forward(self, series):
        return self.body(series).amax(dim=2)


register_backbone("plain-cnn", PlainCNN, head="fc", layers=("first", "second", "third"))
register_backbone("rhythm", Rhythm)
'''
NAME = "my_own_networks"
IMAGES = "phantom:patients=100,size=32,seed=1"
SERIES = "series_phantom:patients=80,seed=1"
QUICK = ("--attribute", "group", "--epochs", 1, "--batch-size", 32, "--device", "cpu")
CNN = ("--image-size", 32, "--backbone", "plain-cnn", "--import", NAME)
RHYTHM = ("--backbone", "rhythm", "--import", NAME)


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / f"{NAME}.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        yield
    sys.modules.pop(NAME, None)
    for name in {"plain-cnn", "rhythm"} & {*BACKBONES}:
        BACKBONES.remove(name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def ended_well(*words):
    ended = evenhand(*words)
    assert ended.status == 0, ended.err
    return ended


@pytest.fixture(scope="module")
def tuned(module, runs):
    words = ("--trials", 2, "--confirm", 0, "--baseline", "last-1", "--out", runs / "tuned")
    ended_well("tune", IMAGES, *CNN, *QUICK, *words)
    return runs / "tuned"


def test_a_search_switches_its_layers(tuned):
    units = {
        item["name"] for item in read_json(tuned / "models" / "fairtune" / "model.json")["units"]
    }
    assert units == {f"stage{k}.{kind}" for k in (1, 2, 3) for kind in ("conv", "norm")}
    last = read_json(tuned / "models" / "last-1" / "model.json")["units"]
    assert {item["name"] for item in last if item["tuned"]} == {"stage3.conv", "stage3.norm"}


@pytest.mark.parametrize("structure", ["weight", "channel"])
def test_it_is_pruned(tuned, runs, structure):
    out = runs / f"pruned by {structure}"
    words = ("--share", 20, "--limit", 40, "--batches", 2, "--structure", structure)
    ended_well("prune", tuned, "--attribute", "group", *words, "--import", NAME, "--out", out)
    assert read_json(out / "pruning.json")["structure"] == structure
    model = load_model(out / "models" / "pruned")
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 2)


def test_it_is_exported_and_scores_new_patients(tuned, runs):
    onnx = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    ended_well("export", tuned, "--import", NAME, "--out", runs / "model.onnx")
    assert onnx.InferenceSession(str(runs / "model.onnx")).get_inputs()[0].shape[1:] == [3, 32, 32]
    new = "phantom:patients=40,size=32,seed=2"
    ended_well("predict", tuned, new, "--import", NAME, "--out", runs / "predicted")


def test_layers_are_compared(tuned, runs):
    ended_well("finetune", IMAGES, *CNN, *QUICK, "--weights", tuned, "--out", runs / "again")
    words = ("--attribute", "sex", "--minimum", 8, "--import", NAME, "--out", runs / "alike")
    ended_well("similarity", tuned, runs / "again", *words)
    assert "third" in (runs / "alike" / "report.html").read_text(encoding="utf-8")


def test_a_series_network_is_pretrained_finetuned_and_pruned(module, runs):
    words = ("--attribute", "group", "--patience", 0, "--out", runs / "encoder")
    ended_well("pretrain", SERIES, *RHYTHM, "--epochs", 1, "--batch-size", 32, *words)
    begin = ("--weights", runs / "encoder", "--strategy", "last-1", "--out", runs / "series")
    ended_well("finetune", SERIES, *RHYTHM, *QUICK, *begin)
    units = read_json(runs / "series" / "models" / "last-1" / "model.json")["units"]
    assert [unit["tuned"] for unit in units].count(True) == 1 < len(units)
    prune = ("--share", 20, "--limit", 40, "--batches", 2, "--import", NAME)
    ended_well("prune", runs / "series", "--attribute", "group", *prune, "--out", runs / "thin")
    ended_well("export", runs / "thin", "--import", NAME, "--out", runs / "thin.onnx")


@pytest.mark.slow
def test_an_assessment_of_an_own_network(module, runs):
    words = ("--attribute", "group", "--seeds", 1, "--epochs", 1, "--pretrain-epochs", 1)
    ended_well("assess", SERIES, *RHYTHM, *words, "--out", runs / "assessed")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_make_it_and_a_killed_search_goes_on(module, runs, engine):
    out = runs / engine
    words = ("--trials", 2, "--confirm", 0, "--baseline", "head", "--workers", 2, "--out", out)
    command = ("tune", IMAGES, *CNN, *QUICK, *words, "--engine", engine)
    ended_well(*command)
    record = (out / "run.json").read_text(encoding="utf-8")
    (out / "run.json").write_text(record.replace('"finished"', '"running"'), encoding="utf-8")
    ended_well(*command)


@pytest.fixture(scope="module")
def saved_vit(runs):
    """Return a classifier of transformers and the folder that it was saved in."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(runs / "vit")
    return network, runs / "vit"


@pytest.fixture(scope="module")
def tuned_vit(saved_vit, runs):
    words = ("--trials", 2, "--confirm", 0, "--baseline", "last-1", "--out", runs / "tuned vit")
    vit = ("--backbone", saved_vit[1], "--image-size", 32)
    ended_well("tune", IMAGES, *vit, *QUICK, *words)
    return runs / "tuned vit"


def test_a_folder_of_transformers_starts_with_its_weights(saved_vit, capfd):
    network, folder = saved_vit
    started = build_model(str(folder), "pretrained", 32, ("a", "b"), seed=0)
    assert capfd.readouterr().err == ""
    own = dict(network.vit.named_parameters())
    for name, parameter in started.backbone.network.named_parameters():
        assert torch.equal(parameter, own[name])
    images = torch.rand(2, 3, 32, 32)
    scaled = started.eval().backbone_inputs(images)
    expected = network.vit(pixel_values=scaled).last_hidden_state[:, 0]
    assert torch.allclose(started.features(images), expected, atol=1e-5)


def test_a_folder_of_transformers_is_searched_pruned_exported_and_predicts(tuned_vit, runs):
    units = read_json(tuned_vit / "models" / "last-1" / "model.json")["units"]
    tuned = {unit["name"] for unit in units if unit["tuned"]}
    last_block = {f"network.layers.2.{kind}" for kind in ("norm", "attn", "mlp")}
    assert tuned == {*last_block, "network.layernorm"}
    words = ("--share", 20, "--limit", 20, "--batches", 2, "--out", runs / "pruned vit")
    ended_well("prune", tuned_vit, "--attribute", "group", *words)
    out = runs / "vit.safetensors"
    ended_well("export", runs / "pruned vit", "--format", "safetensors", "--out", out)
    new = "phantom:patients=40,size=32,seed=2"
    ended_well("predict", runs / "pruned vit", new, "--out", runs / "predicted by vit")


def test_a_swin_of_transformers_is_written_as_onnx(tmp_path):
    """The exporter of torch 2.13 fails on its attention unless this is written out."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=12, depths=[2], num_heads=[2], window_size=4
    )
    transformers.SwinModel(config).save_pretrained(tmp_path / "swin")
    model = build_model(str(tmp_path / "swin"), "none", 16, ("a", "b"), seed=0)
    answer = to_onnx(model, tmp_path / "model.onnx")
    assert check_answers(model, answer) < 1e-5


def test_layers_of_a_folder_of_transformers_are_compared(saved_vit, tuned_vit, runs):
    models = (tuned_vit, tuned_vit, "--model", "fairtune", "--model", "last-1")
    out = runs / "vits alike"
    ended_well("similarity", *models, "--attribute", "sex", "--minimum", 8, "--out", out)
    layers = read_json(out / "similarity.json")["layers"]
    blocks = [f"network.layers.{k}" for k in range(3)]
    assert layers == [["network.embeddings", *blocks, "network.layernorm"]] * 2


def test_a_folder_of_transformers_has_to_stay_and_hold_every_weight(tuned_vit, saved_vit, tmp_path):
    from safetensors.torch import load_file, save_file

    network = saved_vit[0]
    moved = tmp_path / "vit"
    network.save_pretrained(moved)
    tensors = load_file(moved / "model.safetensors")
    del tensors["vit.encoder.layer.0.intermediate.dense.weight"]
    save_file(tensors, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(EvenhandError, match=r"1 tensors are missing: layers.0.mlp.fc1.weight"):
        build_model(str(moved), "pretrained", 32, ("a", "b"), seed=0)
    (moved / "config.json").unlink()
    with pytest.raises(EvenhandError, match=r"vit: the folder has no config.json"):
        build_model(str(moved), "none", 32, ("a", "b"), seed=0)
    with pytest.raises(EvenhandError, match=r"nowhere: no such folder"):
        build_model(str(tmp_path / "nowhere"), "none", 32, ("a", "b"), seed=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "vitt"}'),
        ("model.safetensors", b"abc"),
    ],
)
def test_a_damaged_folder_of_transformers_is_refused(name, content, saved_vit, tmp_path):
    folder = tmp_path / "vit"
    saved_vit[0].save_pretrained(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(EvenhandError, match=r"vit: transformers cannot read it"):
        build_model(str(folder), "pretrained", 32, ("a", "b"), seed=0)


@pytest.mark.slow
def test_a_folder_of_transformers_is_tuned_by_workers_and_assessed(saved_vit, runs):
    vit = ("--backbone", saved_vit[1], "--image-size", 32)
    words = ("--trials", 2, "--confirm", 0, "--baseline", "head", "--workers", 2)
    command = ("tune", IMAGES, *vit, *QUICK, *words, "--out", runs / "vit by workers")
    ended_well(*command)
    record = runs / "vit by workers" / "run.json"
    finished = record.read_text(encoding="utf-8")
    record.write_text(finished.replace('"finished"', '"running"'), encoding="utf-8")
    ended_well(*command)
    words = ("--attribute", "group", "--seeds", 1, "--epochs", 1, "--pretrain-epochs", 1)
    words = (*words, "--cell", "frozen0", "--out", runs / "assessed vit")
    ended_well("assess", IMAGES, *vit, *words)


def test_random_weights_are_those_of_the_seed():
    import_modules([NAME])
    first, same, other = (
        build_model("plain-cnn", "none", 32, ("a", "b"), seed=seed) for seed in (1, 1, 2)
    )
    weights = [model.backbone.first[0].weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("make", "more", "message"),
    [
        ("lambda: nn.Conv2d(3, 4, 3)", {}, "features are one array (2, D)"),
        ("lambda: nn.Linear(7, 4)", {}, "fails on samples of the shape (3, 32, 32)"),
        ("lambda: 3", {}, "returned a int, and not a torch.nn.Module"),
        ("lambda depth: nn.Flatten()", {}, "its function wants depth"),
        ("lambda: nn.Sequential(nn.Flatten())", {"head": "fc"}, "head='fc' names no module of it"),
        ("lambda: nn.Sequential(nn.Flatten())", {"layers": ["a"]}, "layers='a' names no module"),
    ],
)
def test_what_is_no_network(make, more, message):
    from torch import nn

    register_backbone("odd", eval(make, {"nn": nn}), **more)
    try:
        with pytest.raises(EvenhandError) as error:
            build_model("odd", "none", 32, ("a", "b"), seed=0)
        assert message in str(error.value)
    finally:
        BACKBONES.remove("odd")


def test_it_is_not_known_without_its_module(tmp_path):
    words = ("--image-size", 32, "--backbone", "plain-cnm", "--weights", "none")
    ended = evenhand("finetune", IMAGES, *words, *QUICK, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "a network of your own is registered by a module of --import" in ended.err


def test_its_units_are_those_that_masks_switch():
    ended = evenhand("units", "plain-cnn", "--import", NAME)
    assert "parts (each parameter is in exactly one): 6 units\n  stage1.conv" in ended.out
    assert "fc" not in ended.out  # the head always trains
