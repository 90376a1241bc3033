"""Checkpoints as people have them: wrapped, prefixed, beside other networks."""

from __future__ import annotations

import argparse
import logging

import pytest
import timm
import torch
from torch import nn

import evenhand
from evenhand.errors import EvenhandError
from evenhand.networks.model import build_model
from evenhand.networks.registry import BACKBONES
from evenhand.networks.weights_file import _warn_once

CLASSES = ("benign", "malignant")


@pytest.fixture(autouse=True)
def _said_anew():
    _warn_once.cache_clear()


def network(name: str, seed: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        size = {"img_size": 32} if "vit" in name else {}
        built = timm.create_model(name, num_classes=0, **size)
        for parameter in built.parameters():
            nn.init.normal_(parameter)
        return built


def under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def other(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return numbers that must not be taken."""
    return {key: torch.zeros_like(value) for key, value in state.items()}


MLP = {"mlp.0.weight": torch.zeros(3, 3), "last_layer.weight_g": torch.zeros(3, 1)}
LAYOUTS = {
    "bare": lambda s: s,
    "data parallel": lambda s: under("module.", s),
    "an entry": lambda s: {"state_dict": s, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
    "nested": lambda s: {"model": under("module.model.encoder.", s), "loss": torch.zeros(1)},
    "Lightning": lambda s: {
        "state_dict": under("model.backbone.", s) | {"criterion.weight": torch.ones(2)},
        "hyper_parameters": {"lr": 0.1},
    },
    "MAE": lambda s: {
        "model": s
        | {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 5, 8)}
        | {"decoder_blocks.0.norm1.weight": torch.zeros(8), "decoder_pred.bias": torch.zeros(9)},
        "args": argparse.Namespace(epochs=800),
    },
    "DINO": lambda s: {
        "student": under("module.backbone.", other(s)) | under("module.head.", MLP),
        "teacher": under("backbone.", s) | under("head.", MLP),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "dino_loss": {"center": torch.zeros(1, 3)},
    },
    "MoCo v2": lambda s: {
        "arch": "resnet50",
        "state_dict": under("module.encoder_k.", other(s))
        | under("module.encoder_q.", s | {"fc.0.weight": torch.zeros(3, 3)})
        | {"module.queue": torch.zeros(8, 4), "module.queue_ptr": torch.zeros(1)},
    },
    "MoCo v3": lambda s: {
        "state_dict": under("module.momentum_encoder.", other(s))
        | under("module.base_encoder.", s | {"head.0.weight": torch.zeros(3, 3)})
        | under("module.predictor.", MLP),
    },
}
SAID = {
    "data parallel": "the prefix 'module.' is stripped",
    "an entry": "its entry 'state_dict'",
    "nested": "the prefix 'module.model.encoder.' is stripped",
    "Lightning": "left out: criterion",
    "MAE": "left out: decoder_blocks, decoder_pos_embed, decoder_pred",
    "DINO": "its entry 'teacher'; the prefix 'backbone.' is stripped; left out: head",
    "MoCo v2": "prefix 'module.encoder_q.' is stripped; left out: fc, encoder_k, queue, queue_ptr",
    "MoCo v3": "left out: head, momentum_encoder, predictor",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_layouts(tmp_path, caplog, layout, name):
    theirs = network(name).state_dict()
    file = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](theirs), file)
    with caplog.at_level(logging.WARNING):
        ours = build_model(name, str(file), 32, CLASSES, seed=0).backbone.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    messages = [record.message for record in caplog.records]
    assert len(messages) == (layout in SAID)
    if messages and not (layout == "MAE" and name != "test_vit"):
        assert SAID[layout] in messages[0]


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt"])
def test_counters_may_be_missing(tmp_path, suffix):
    theirs = network("test_resnet").state_dict()
    without_counters = {
        key: value for key, value in theirs.items() if not key.endswith("num_batches_tracked")
    }
    assert len(without_counters) < len(theirs)
    file = tmp_path / f"weights{suffix}"
    torch.save(under("backbone.", without_counters), file)
    ours = build_model("test_resnet", str(file), 32, CLASSES, seed=0).backbone.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in without_counters.items())


def test_what_lacks_and_what_is_left_over_is_listed(tmp_path):
    theirs = network("test_resnet").state_dict()
    file = tmp_path / "weights.pth"
    lacking = {key: value for key, value in theirs.items() if key != "conv1.0.weight"}
    assert len(lacking) < len(theirs)
    torch.save(under("module.", lacking), file)
    with pytest.raises(EvenhandError, match=r"1 of \d+ tensors differ \(conv1\.0\.weight is miss"):
        build_model("test_resnet", str(file), 32, CLASSES, seed=0)
    torch.save(under("module.", theirs | {"neck.weight": torch.zeros(3)}), file)
    with pytest.raises(EvenhandError, match=r"no place there \(neck\.weight\)"):
        build_model("test_resnet", str(file), 32, CLASSES, seed=0)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.net(x).mean((2, 3)))


def test_a_network_of_ones_own(tmp_path):
    evenhand.register_backbone("wrapped", Wrapped, head="fc")
    try:
        theirs, file = Wrapped(), tmp_path / "weights.pt"
        torch.save({"epoch": 1, "model": under("module.", theirs.state_dict())}, file)
        ours = build_model("wrapped", str(file), 32, CLASSES, seed=0)
        assert torch.equal(ours.backbone.net[0].weight, theirs.net[0].weight)
    finally:
        BACKBONES.remove("wrapped")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (nn.Linear(2, 2), r"would run code from the file.*tensors\.pth"),
        ({"state_dict": {"a": torch.ones(1)}, "config": nn.ReLU()}, "would run code"),
        ([torch.ones(2)], "holds a list, and no tensors by name"),
        ({"epoch": 3}, r"holds no tensors by name; it has: epoch"),
    ],
)
def test_what_is_no_state(tmp_path, content, text):
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    with pytest.raises(EvenhandError, match=rf"(?s){text}"):
        build_model("test_vit", str(file), 32, CLASSES, seed=0)
