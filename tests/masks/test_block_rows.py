"""Transformers whose blocks lie in other rows, or attend in another way, have the same units."""

from __future__ import annotations

from collections import Counter

import evenhand  # noqa: F401  # isort: skip
import pytest
import timm
import torch

from evenhand.masks.lora import merge_lora
from evenhand.masks.masks import set_trainable
from evenhand.masks.strategies import find_strategy
from evenhand.masks.units import all_units, families, module_depths, parts
from evenhand.networks.inputs import ImageInputs
from evenhand.networks.layers import layer_names
from evenhand.networks.model import Model, ModelSpec

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TINY = {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 2}
ROWS = {
    "vit_small_patch16_dinov3": TINY,
    "eva02_tiny_patch14_224": TINY | {"img_size": 28, "embed_dim": 48},
    "eva02_base_patch14_224": TINY | {"img_size": 28, "embed_dim": 48},
    "beit_base_patch16_224": TINY,
    "vit_srelpos_small_patch16_224": TINY,
    "cait_xxs24_224": TINY,
    "xcit_nano_12_p16_224": TINY,
}
OTHERS = ("hrnet_w18_small", "twins_svt_small", "swin_tiny_patch4_window7_224")


def make(name: str) -> Model:
    sizes = ROWS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(name, num_classes=0, **sizes)
        for parameter in backbone.parameters():  # a LayerScale begins near 0
            torch.nn.init.normal_(parameter, std=0.3)
        inputs = ImageInputs(size=sizes["img_size"], mean=(0.5,) * 3, std=(0.5,) * 3)
        return Model(ModelSpec(backbone=name, inputs=inputs, classes=("a", "b")), backbone).eval()


def images(name: str) -> torch.Tensor:
    size = ROWS[name]["img_size"]
    return IMAGES[..., :size, :size]


def assert_partition(backbone, units):
    held = Counter(id(p) for unit in units for p in unit.parameters)
    assert held == Counter(id(p) for p in backbone.parameters())


@pytest.mark.parametrize("name", ROWS)
def test_masks_of_attention_and_mlp(name):
    backbone = make(name).backbone
    assert_partition(backbone, parts(backbone))
    units = all_units(backbone)
    for kind in ("attn", "mlp", "norm1", "norm2"):
        inside = {id(p) for p in backbone.blocks[1].get_submodule(kind).parameters()}
        assert inside <= {*map(id, units[f"blocks.1.{kind}"].parameters)}
        assert units[f"blocks.1.{kind}"].depth == 2
    assert {unit.kind for unit in parts(backbone)} & {"gamma_1", "gamma_2", "gamma1"} == set()
    assert len(families(backbone)["attention"].units) == len(families(backbone)["mlp"].units) == 2


@pytest.mark.parametrize("name", [name for name in ROWS if name != "xcit_nano_12_p16_224"])
def test_lora_begins_at_zero_trains_and_merges(name):
    before, model = make(name), make(name)
    inputs = images(name)
    model, schedule = find_strategy("lora")(model, 0)
    model.eval()
    assert torch.allclose(model(inputs), before(inputs), rtol=1e-4, atol=1e-4)
    set_trainable(model, schedule(0))
    tuned = [p for p in model.backbone.parameters() if p.requires_grad]
    rows = 2 if name.startswith("cait") else 1  # CaiT has two blocks of class attention, too
    assert len(tuned) == rows * 2 * 2 * 2  # blocks, query and value, two factors
    with torch.no_grad():
        for parameter in tuned:
            parameter.add_(0.1)
    model(inputs).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tuned)
    changed = model(inputs).detach()
    assert not torch.allclose(changed, before(inputs), atol=1e-3)
    merged = merge_lora(model)
    assert merged.state_dict().keys() == before.state_dict().keys()
    assert torch.allclose(merged(inputs), changed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_networks_by_stage_and_by_structure(name):
    with torch.device("meta"):
        backbone = timm.create_model(name, num_classes=0)
    assert_partition(backbone, parts(backbone))
    depths = module_depths(backbone)
    assert set(layer_names(backbone)) <= depths.keys()
    result = families(backbone)
    if name != "hrnet_w18_small":
        attention = result["attention"].units
        held = {n for unit in attention for n in unit.names}
        named = {n for n, _ in backbone.named_parameters() if ".attn." in n and "norm" not in n}
        assert held == named
        assert len(attention) > 4
    assert {"norm", "conv"} <= result.keys()
