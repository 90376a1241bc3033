"""The precision that ``auto`` stands for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evenhand.experiments.settings import TrainingSettings
from evenhand.training import device
from evenhand.training.device import multiplies_half, products_per_value, settle_precision


def settled(backbone: str, **changes) -> str:
    settings = TrainingSettings(
        data="phantom", backbone=backbone, image_size=64, device="cpu", precision="auto"
    )
    return settle_precision(settings.model_copy(update=changes)).precision


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("resnet18", "bf16"),
        ("tf_efficientnet_lite0", "fp32"),
        ("test_vit", "fp32"),
        ("gru", "fp32"),
    ],
)
def test_half_precision_is_for_networks_that_mostly_multiply(monkeypatch, backbone, expected):
    monkeypatch.setattr(device, "multiplies_half", lambda: True)
    assert settled(backbone) == expected


def test_a_processor_without_half_precision_trains_in_full(monkeypatch):
    monkeypatch.setattr(device, "multiplies_half", lambda: False)
    assert settled("resnet18") == "fp32"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_which_processors_multiply_half_precision(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert multiplies_half() is expected


def test_a_torch_that_tells_no_capabilities(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_half()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_given_stays(precision):
    assert settled("resnet18", precision=precision) == precision


def test_products_are_counted_for_each_value_that_is_written():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU())
    values = 2 * 4 * 8 * 8  # both layers write as many
    assert products_per_value(network, torch.zeros(1, 3, 8, 8)) == values / 2 * 27 / values
    grouped = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    assert products_per_value(grouped, torch.zeros(1, 4, 8, 8)) == 9
