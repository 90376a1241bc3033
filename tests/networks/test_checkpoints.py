"""Weights in, weights out."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from evenhand.errors import EvenhandError
from evenhand.networks.model import build_model, load_model, save_model
from evenhand.networks.weights_file import fill
from evenhand.runs import run_scope, start_run

CLASSES = ("benign", "malignant")
OFFLINE = """
from evenhand.errors import EvenhandError
from evenhand.networks.model import build_model
from evenhand.networks.weights_file import fill

try:
    build_model("test_vit", "pretrained", 32, ("a", "b"), 0)
except EvenhandError as error:
    print(error)
"""


def images(size: int = 32) -> torch.Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def run(tmp_path, vit):
    """A run that has a model ``full``, not yet finished."""
    with run_scope():
        run = start_run(tmp_path / "run", "finetune", {"seed": 0}, fingerprint="f")
    save_model(run.folder("full"), vit, strategy="full")
    return run


@pytest.mark.parametrize("network", ["vit", "resnet", "edgenext"])
def test_a_saved_model_comes_back(tmp_path, network, request):
    model = request.getfixturevalue(network)
    model(images())  # moves running statistics
    save_model(tmp_path, model, strategy="full", mask=["norm"])
    back = load_model(tmp_path)
    assert not back.training
    assert back.spec == model.spec
    assert torch.equal(back(images()), model.eval()(images()))
    facts = json.loads((tmp_path / "model.json").read_text())
    assert (facts["strategy"], facts["mask"]) == ("full", ["norm"])


def test_no_model_and_a_later_one(tmp_path, vit):
    with pytest.raises(EvenhandError, match="holds no model"):
        load_model(tmp_path)
    save_model(tmp_path, vit)
    facts = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**facts, "schema": 99}))
    with pytest.raises(EvenhandError, match=r"schema 99.*newer"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("saved", "backbone", "surplus"),
    [
        ("resnet34", "resnet18", r"96 of its 218 tensors have no place there \(layer1.2.bn1.bias"),
        ("vit_tiny_patch16_224", {"depth": 11}, r"blocks.11.attn.proj.bias.* and 7 more"),
    ],
)
def test_weights_of_a_larger_network_are_refused(tmp_path, saved, backbone, surplus):
    """Every tensor of the smaller one is there, of the same shape."""
    theirs = timm.create_model(saved)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    if isinstance(backbone, str):
        with pytest.raises(EvenhandError, match=rf"is not of {backbone}: {surplus}"):
            build_model(backbone, str(tmp_path / "theirs.safetensors"), 64, CLASSES, seed=0)
    else:
        smaller = timm.create_model(saved, num_classes=0, **backbone)
        with pytest.raises(EvenhandError, match=surplus):
            fill(smaller, saved, tmp_path / "theirs.safetensors")


@pytest.mark.parametrize("name", ["levit_128s", "caformer_s18"])
def test_a_classifier_of_several_layers_is_left_behind(tmp_path, name):
    theirs = timm.create_model(name)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    build_model(name, str(tmp_path / "theirs.safetensors"), 224, CLASSES, seed=0)


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [
        ("test_vit", 33, "patches are 16 pixels wide. Give --image-size 32"),
        ("swin_tiny_patch4_window7_224", 33, "patches are 4 pixels wide. Give --image-size 32"),
        ("convnext_atto", 2, "Kernel size can't be greater .* Give another --image-size; .* 224"),
        ("crossvit_tiny_240", 256, "must match the size .* Give another --image-size; .* 240"),
    ],
)
def test_sizes_that_a_network_cannot_take(name, size, text):
    with pytest.raises(EvenhandError, match=text):
        build_model(name, "none", size, CLASSES, seed=0)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_weights_of_a_file_as_timm_lays_it_out(tmp_path, name):
    sized = {"img_size": 32} if "vit" in name else {}
    with torch.random.fork_rng():
        theirs = timm.create_model(name, num_classes=5, **sized).eval()
    file = tmp_path / "theirs.safetensors"
    save_file(theirs.state_dict(), file)
    ours = build_model(name, str(file), 32, CLASSES, seed=1).eval()
    theirs.reset_classifier(0)
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.backbone.state_dict()[key], value), key
    normal = (images() - ours.mean) / ours.std
    assert torch.allclose(ours.features(images()), theirs(normal), atol=1e-6)


def test_position_embeddings_are_resampled_to_the_image_size(tmp_path, vit):
    file = tmp_path / "small.safetensors"
    save_file(vit.backbone.state_dict(), file)
    large = build_model("test_vit", str(file), 64, CLASSES, seed=0)
    assert large(images(64)).shape == (3, 2)
    assert torch.equal(large.backbone.norm.weight, vit.backbone.norm.weight)


def test_weights_of_our_own_file_and_of_a_finished_run(run, vit):
    run.finish(chosen="full")
    for weights in (run.root, run.folder("full") / "model.safetensors"):
        model = build_model("test_vit", str(weights), 32, CLASSES, seed=7)
        assert torch.equal(model.features(images()), vit.features(images()))
        assert not torch.equal(model.head.weight, vit.head.weight)


def test_an_unfinished_run(run):
    with pytest.raises(EvenhandError, match="not finished"):
        build_model("test_vit", str(run.root), 32, CLASSES, seed=0)


def test_a_folder_of_transformers_is_a_backbone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EvenhandError, match="transformers saved, not a run"):
        build_model("test_vit", str(tmp_path), 32, CLASSES, seed=0)


def test_weights_of_another_backbone(tmp_path, vit):
    file = tmp_path / "vit.safetensors"
    save_file(vit.backbone.state_dict(), file)
    with pytest.raises(EvenhandError, match=r"does not fit test_resnet: .*missing.*--backbone"):
        build_model("test_resnet", str(file), 32, CLASSES, seed=0)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("weights.pt", b"PK", "cannot be read as a checkpoint"),
        ("weights.h5", b"PK", r"those end in \.safetensors, \.pth, \.pt, \.bin, \.ckpt"),
        ("broken.safetensors", b"\0" * 20, "cannot be read as safetensors"),
        ("absent.safetensors", None, "neither a file nor a run"),
    ],
)
def test_files_that_are_refused(tmp_path, name, content, text):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EvenhandError, match=text):
        build_model("test_vit", str(file), 32, CLASSES, seed=0)


def test_pretrained_weights_without_a_hub(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "could not get timm's pre-trained weights of test_vit" in done.stdout
    assert "--weights FILE.safetensors" in done.stdout


def test_the_seed_draws_the_model_and_leaves_the_global_state():
    before = torch.random.get_rng_state()
    first, same, other = (build_model("test_vit", "none", 32, CLASSES, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first(images()), same(images()))
    assert not torch.equal(first.head.weight, other.head.weight)
    assert not torch.equal(first.backbone.pos_embed, other.backbone.pos_embed)


def test_images_are_normalised_as_the_backbone_expects(vit):
    config = vit.backbone.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    vit.eval()
    assert torch.allclose(vit.features(images()), vit.backbone((images() - mean) / std), atol=1e-6)
    assert vit.spec.inputs.mean == tuple(config["mean"])
    assert not {"mean", "std"} & vit.state_dict().keys()


def test_a_size_that_the_backbone_cannot_take():
    with pytest.raises(EvenhandError, match="8 pixels"):
        build_model("test_vit", "none", 8, CLASSES, seed=0)
