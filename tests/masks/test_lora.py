"""LoRA changes query and value of the blocks that it was asked for, and is gone once merged."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.tiny_vit import TinyVit
from timm.models.twins import Twins
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.masks.lora import RANK, merge_lora
from evenhand.masks.masks import set_trainable
from evenhand.masks.strategies import find_strategy
from evenhand.masks.units import parts
from evenhand.networks.model import Model, build_model, load_model, save_model
from evenhand.networks.registry import BACKBONES, register_backbone

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
WIDTH = 64


def changed(strategy: str) -> tuple[Model, Model]:
    """Return a model with LoRA, every trainable parameter moved, and its like before that."""
    model, schedule = find_strategy(strategy)(build_model("test_vit", "none", 32, ("a", "b"), 0), 0)
    set_trainable(model, schedule(0))
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), build_model("test_vit", "none", 32, ("a", "b"), 0).eval()


def test_it_begins_where_the_model_was(vit):
    before = vit.eval()(IMAGES)
    model, _ = find_strategy("lora")(vit, 0)
    assert torch.allclose(model.eval()(IMAGES), before, atol=1e-6)


def test_only_low_rank_updates_are_trainable(vit):
    model, schedule = find_strategy("lora:0,3")(vit, 0)
    set_trainable(model, schedule(0))
    tuned = {name: p for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert {tuple(name.split(".")[1:5]) for name in tuned} == {
        (block, "attn", "qkv", projection) for block in "03" for projection in "qv"
    }
    assert all("lora_" in name for name in tuned)
    assert sum(p.numel() for p in tuned.values()) == 2 * 2 * RANK * 2 * WIDTH
    assert {u.depth for u in parts(model.backbone) if u.kind == "lora"} == {1, 4}


def test_the_merged_model_says_the_same_and_loads_like_any_other(tmp_path):
    model, before = changed("lora:1,4")
    logits = model(IMAGES)
    assert not torch.allclose(logits, before(IMAGES), atol=1e-3)
    save_model(tmp_path, merge_lora(model))
    assert torch.allclose(load_model(tmp_path)(IMAGES), logits, atol=1e-5)


def test_keys_and_other_blocks_stand_still():
    model, before = changed("lora:1,4")
    merge_lora(model)
    for name, value in before.state_dict().items():
        after = model.state_dict()[name]
        if name in {f"backbone.blocks.{k}.attn.qkv.weight" for k in (1, 4)}:
            q, k, v = (after - value).chunk(3)
            assert torch.equal(k, torch.zeros_like(k))
            for update in (q, v):
                assert torch.linalg.matrix_rank(update, rtol=1e-3) == RANK
        else:
            assert torch.equal(after, value), name


def test_its_seed_draws_it(vit):
    drawn = [
        find_strategy("lora")(build_model("test_vit", "none", 32, ("a", "b"), 0), seed)[0]
        for seed in (3, 3, 4)
    ]
    name = "backbone.blocks.0.attn.qkv.q.lora_A.default.weight"
    first, same, other = (model.get_parameter(name) for model in drawn)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def swin():
    return SwinTransformer(32, 4, window_size=4, embed_dim=16, depths=(1, 2), num_heads=(2, 2))


def twins():
    return Twins(
        32, embed_dims=(16, 32), num_heads=(2, 2), depths=(2, 1), mlp_ratios=(2, 2), wss=(2, 2),
        sr_ratios=(2, 1), norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip


def tiny_vit():
    return TinyVit(embed_dims=(8, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2),
                   window_sizes=(2, 2, 2, 2))  # fmt: skip


OWN = {
    "swin": (swin, ["layers.0.blocks.0", "layers.1.blocks.0", "layers.1.blocks.1"], ("q", "v")),
    "twins": (twins, ["blocks.0.0", "blocks.0.1", "blocks.1.0"], ("q", "v", "kv")),
    "tiny_vit": (tiny_vit, [f"stages.{k}.blocks.0" for k in (1, 2, 3)], ("qkv",)),
}


@pytest.fixture(params=OWN)
def own(request):
    make, blocks, projections = OWN[request.param]
    register_backbone(request.param, make, head="head.fc" if request.param != "twins" else "head")
    yield request.param, blocks, projections
    BACKBONES.remove(request.param)


def test_attention_of_any_network_is_adapted_and_merged(own):
    name, blocks, projections = own
    plain = build_model(name, "none", 32, ("a", "b"), 0).eval()
    model, schedule = find_strategy("lora")(build_model(name, "none", 32, ("a", "b"), 0), 0)
    assert torch.allclose(model.eval()(IMAGES), plain(IMAGES), atol=1e-6)
    assert schedule(0) == {f"{block}.lora" for block in blocks}
    set_trainable(model, schedule(0))
    tuned = [n for n, p in model.backbone.named_parameters() if p.requires_grad]
    assert {n.partition(".lora_")[0].rpartition(".")[2] for n in tuned} == {*projections}
    with torch.no_grad():
        for parameter in tuned:
            model.backbone.get_parameter(parameter).normal_(std=0.3)
    answer = model(IMAGES)
    assert not torch.allclose(answer, plain(IMAGES), atol=1e-4)
    merged = merge_lora(model)
    assert torch.allclose(merged(IMAGES), answer, atol=1e-5)
    assert merged.state_dict().keys() == plain.state_dict().keys()


def test_blocks_are_counted_from_the_input_and_merging_gives_the_weights_back(own):
    name, blocks, _ = own
    model, _ = find_strategy("lora:0")(build_model(name, "none", 32, ("a", "b"), 0), 0)
    updated = {n for n, _ in model.backbone.named_parameters() if ".lora_" in n}
    assert {n.split(".attn.")[0] for n in updated} == {blocks[0]}
    before = build_model(name, "none", 32, ("a", "b"), 0)
    for parameter in before.backbone.parameters():
        assert any(torch.equal(parameter, p) for p in merge_lora(model).backbone.parameters())


def test_a_network_by_stage_is_told_what_it_may_take(resnet):
    with pytest.raises(
        EvenhandError, match=r"test_resnet has no attention blocks with linear.*last-K"
    ):
        find_strategy("lora")(resnet, 0)


def test_without_its_extra(vit, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(EvenhandError, match=r"pip install 'evenhand\[lora\]'"):
        find_strategy("lora")(vit, 0)
